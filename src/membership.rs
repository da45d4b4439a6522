//! PURE. Membership of a group: for now the words in which it is spoken of.

pub(crate) mod exchange;
