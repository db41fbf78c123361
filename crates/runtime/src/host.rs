//! The machine that the program runs on.

/// The host's name, which in a pod is the pod's; none where it cannot be read or is empty.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
