//! The program as its users see it: the real binary, run against the in-memory broker over TCP, and judged by what it
//! wrote there, what it committed, what it said and how it exited.
//!
//! `harness` is the one way to do so. Everything else is a session at the prompt, named by the fact that it shows.

mod begin;
mod commands;
mod delivery;
mod drain;
mod exec;
mod exit_codes;
mod failures;
mod faults;
mod groups;
mod harness;
mod inspect;
mod limits;
mod loss;
mod progress;
mod proxy;
mod proxy_reads;
mod proxy_runs;
mod reading;
mod restart;
mod retries;
mod security;
mod settings;
mod stores;
mod telling;
mod topics;
