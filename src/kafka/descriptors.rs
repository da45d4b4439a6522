//! File descriptors: rskafka wants a connection per partition, and many systems allow 1,024 descriptors by default.

use std::io;

/// Raises this process's soft limit on open files to its hard limit, and returns the limit now in force (`u64::MAX` for
/// none). A thousand partitions take about as many descriptors.
///
/// # Errors
/// If the system refuses. Nothing has changed then.
#[cfg(unix)]
pub fn raise_descriptor_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// There is no such limit on this system.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn raise_descriptor_limit() -> io::Result<u64> {
    Ok(u64::MAX)
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let lower = maximum.unwrap_or(4_096).min(4_096) - 1;
        setrlimit(Resource::Nofile, Rlimit { current: Some(lower), maximum }).expect("lowering is always allowed");
        let now = super::raise_descriptor_limit().expect("raising to the hard limit is always allowed");
        assert_eq!(now, maximum.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
