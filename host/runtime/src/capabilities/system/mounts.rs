//! What is mounted where, of `/proc/PID/mountinfo`.

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Major and minor number of its file system.
    device: String,
    /// Which folder of the file system is mounted.
    root: String,
    /// Where.
    pub(super) point: String,
    /// Whether the file system itself takes no writes, as after an error of its disk. A mount may be
    /// read-only of one that does: in a sandbox, all are.
    pub(super) read_only: bool,
}

impl Mount {
    /// Whether another one shows the same files of the same file system by the same paths, as where a
    /// sandbox mounts a folder over itself.
    pub(super) fn is_shown_by(&self, other: &Self) -> bool {
        let Some(below) = below(&self.point, &other.point).filter(|below| !below.is_empty()) else {
            return false;
        };
        self.device == other.device
            && self
                .root
                .strip_suffix(below)
                .is_some_and(|root| root == other.root.trim_end_matches('/'))
    }
}

/// What of a path lies below another: `/b` of `/a/b` below `/a`.
fn below<'a>(path: &'a str, above: &str) -> Option<&'a str> {
    let rest = path.trim_end_matches('/').strip_prefix(above.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// `/proc/PID/mountinfo`, in the order of the mounts. Lines of another form are left out.
pub(super) fn mounts(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (own, file_system) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(2);
    let (device, root, point) = (own.next()?, own.next()?, own.next()?);
    let options = file_system.split(' ').nth(2)?;
    Some(Mount {
        device: device.to_owned(),
        root: unescaped(root),
        point: unescaped(point),
        read_only: options.split(',').any(|option| option == "ro"),
    })
}

/// A path in which the kernel wrote spaces and the like as `\040`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOUNTINFO: &str = "22 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
        23 22 8:2 / /srv/a\\040b rw,noatime - xfs /dev/sda2 ro,attr2\n\
        24 22 0:5 / /dev rw - devtmpfs udev rw\nnot a mount\n25 22 8:1 /x - ext4\n";

    #[test]
    fn a_mount_is_as_writable_as_its_file_system_whatever_a_sandbox_made_of_it() {
        let mounts = mounts(MOUNTINFO);
        let seen: Vec<_> = mounts.iter().map(|m| (m.point.as_str(), m.read_only)).collect();
        assert_eq!(seen, [("/", false), ("/srv/a b", true), ("/dev", false)]);
    }

    #[test]
    fn a_folder_mounted_over_itself_is_no_file_system_of_its_own() {
        let mount = |device: &str, root: &str, point: &str| Mount {
            device: device.to_owned(),
            root: root.to_owned(),
            point: point.to_owned(),
            read_only: false,
        };
        let root = mount("8:1", "/", "/");
        let home = mount("8:2", "/@home", "/home");
        for (one, by, shown) in [
            (mount("8:1", "/var/lib/s", "/var/lib/s"), &root, true),
            (mount("8:2", "/@home/s", "/home/s"), &home, true),
            (mount("8:1", "/srv/jail", "/var/lib/s"), &root, false),
            (mount("8:9", "/var/lib/s", "/var/lib/s"), &root, false),
            (mount("8:2", "/@homes", "/homes"), &home, false),
            (home.clone(), &root, false),
            (root.clone(), &root, false),
        ] {
            assert_eq!(one.is_shown_by(by), shown, "{one:?} by {by:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(noise in "[ -~\\n]{0,40}", at in 0usize..90) {
            let (head, tail) = MOUNTINFO.split_at(at);
            let _ = mounts(&format!("{head}{noise}{tail}"));
        }
    }
}
