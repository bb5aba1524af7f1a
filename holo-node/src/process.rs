//! What the operating system says of this process.

/// Memory and processor time of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessUsage {
    /// Resident bytes.
    pub(crate) resident_bytes: u64,
    /// User and system time.
    pub(crate) cpu_ms: u64,
}

/// Reads the figures; zeros where the system has no `/proc`.
pub(crate) fn usage() -> ProcessUsage {
    let resident_pages =
        std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| field(&text, 1));
    let page = rustix::param::page_size() as u64;
    // The command name, in parentheses, may hold spaces: count the fields behind it.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = field(after_name, 11).unwrap_or(0) + field(after_name, 12).unwrap_or(0);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    ProcessUsage {
        resident_bytes: resident_pages.unwrap_or(0) * page,
        cpu_ms: ticks * 1000 / per_second,
    }
}

fn field(text: &str, index: usize) -> Option<u64> {
    text.split_whitespace().nth(index)?.parse().ok()
}
