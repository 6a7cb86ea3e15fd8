//! How much memory the process uses, as the system counts it.

use super::{MemoryState, Use};
use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroups of version 2 are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Reads how much memory is in use.
#[derive(Debug)]
pub enum Meter {
    /// Of the cgroups that the process is in, from its own up to the root.
    Cgroups(Vec<PathBuf>),
    /// Of this process, which may have so many bytes.
    Process { limit: u64 },
}

impl Meter {
    /// With a limit of the process's own; 0: nothing is measured. `None`: its cgroups say how much there is.
    pub fn new(limit: Option<u64>) -> Option<Self> {
        match limit {
            Some(0) => None,
            Some(limit) => Some(Self::Process { limit }),
            None => {
                let own = fs::read_to_string("/proc/self/cgroup").ok()?;
                Self::of_cgroup(Path::new(CGROUPS), &own)
            }
        }
    }

    /// `own`: what `/proc/self/cgroup` says.
    fn of_cgroup(root: &Path, own: &str) -> Option<Self> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = root.join(path);
        let all = own.ancestors().take_while(|at| at.starts_with(root));
        // The root of all has no limit; that of a container has.
        let limited = all.filter(|at| at.join("memory.max").exists());
        let limited: Vec<PathBuf> = limited.map(Path::to_owned).collect();
        (!limited.is_empty()).then_some(Self::Cgroups(limited))
    }

    /// `None`: there is no limit, or it cannot be read.
    pub(super) fn read(&self) -> Option<Use> {
        match self {
            Self::Cgroups(all) => {
                // A limit may change while the process runs, and what is above may have less.
                let limits = all
                    .iter()
                    .filter_map(|at| Some((number(&at.join("memory.max"))?, at)));
                let (limit, at) = limits.min()?;
                let current = number(&at.join("memory.current"))?;
                let now = Use {
                    used: current,
                    limit,
                };
                // What the kernel can take back at once is not used; it is asked for only where that matters.
                Some(match MemoryState::Closed.after(now) {
                    MemoryState::Normal => now,
                    _ => Use {
                        used: current.saturating_sub(cached(at)),
                        limit,
                    },
                })
            }
            Self::Process { limit } => {
                let status = fs::read_to_string("/proc/self/status").ok()?;
                let kib = field(&status, "RssAnon:")?;
                Some(Use {
                    used: kib.saturating_mul(1024),
                    limit: *limit,
                })
            }
        }
    }
}

/// The number in a file; `None` also for `max`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Bytes of files that are only kept in case that somebody reads them again.
fn cached(cgroup: &Path) -> u64 {
    let stat = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    let fields = ["inactive_file", "active_file"];
    let known = fields.iter().filter_map(|name| field(&stat, name));
    known.fold(0, u64::saturating_add)
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut words| {
        let is_it = words.next() == Some(name);
        is_it.then(|| words.next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_cgroup_counts_without_its_cache_of_files() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("pods/a/memory.max", "max\n");
        put("pods/a/memory.current", "10\n");
        put("pods/memory.max", "1000\n");
        put("pods/memory.current", "700\n");
        put(
            "pods/memory.stat",
            "anon 5\ninactive_file 60\nactive_file 40\n",
        );
        put("memory.pressure", "");
        let meter = Meter::of_cgroup(root.path(), "1:name=x:/y\n0::/pods/a\n").unwrap();
        let read = |used, limit| Some(Use { used, limit });
        assert_eq!(meter.read(), read(700, 1000), "far from any state");
        put("pods/memory.current", "950\n");
        assert_eq!(meter.read(), read(850, 1000));
        put("pods/a/memory.max", "20\n");
        assert_eq!(meter.read(), read(10, 20), "its own is less now");
        put("pods/a/memory.max", "max\n");
        put("pods/memory.max", "max\n");
        assert_eq!(meter.read(), None);
        // A container sees its own as the root.
        put("memory.max", "40\n");
        put("memory.current", "4\n");
        let inside = Meter::of_cgroup(root.path(), "0::/\n").unwrap();
        assert_eq!(inside.read(), read(4, 40));
        assert!(Meter::of_cgroup(root.path(), "3:memory:/x\n").is_none());
    }

    #[test]
    fn a_process_knows_its_own() {
        let meter = Meter::new(Some(1 << 40)).unwrap();
        let now = meter.read().unwrap();
        assert!(now.used > 0 && now.used < now.limit, "{now:?}");
        assert!(Meter::new(Some(0)).is_none());
    }
}
