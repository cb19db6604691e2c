//! What a plan has to know of the machine that it is made for.

/// The machine, as far as defaults depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    cpus: Vec<u32>,
}

impl Machine {
    /// A machine with these CPUs for us to use; CPU 0 if there are none.
    pub fn with_cpus(mut cpus: Vec<u32>) -> Machine {
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.is_empty() {
            cpus.push(0);
        }
        Machine { cpus }
    }

    /// This machine: the CPUs that this process may run on (a container's cpuset, taskset), which are not
    /// always 0 to N-1.
    pub fn here() -> Machine {
        // From /proc, as the affinity call would need unsafe code. Without /proc: count from 0.
        let listed = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
            let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
            cpu_list(line.trim())
        });
        Machine::with_cpus(listed.unwrap_or_else(|| {
            let count = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
            (0..count).collect()
        }))
    }

    /// The CPUs, ascending, not empty.
    pub fn cpus(&self) -> &[u32] {
        &self.cpus
    }
}

/// The kernel's list format: `0-3,8`.
fn cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
        // More than Linux supports: not a list of CPUs.
        if low > high || high >= 8192 {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lists() {
        assert_eq!(cpu_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list("5"), Some(vec![5]));
        for bad in ["", "3-1", "a", "0-99999", "1,"] {
            assert_eq!(cpu_list(bad), None, "{bad:?}");
        }
        assert_eq!(Machine::with_cpus(vec![3, 1, 3]).cpus(), [1, 3]);
        assert_eq!(Machine::with_cpus(vec![]).cpus(), [0]);
        assert!(!Machine::here().cpus().is_empty());
    }
}
