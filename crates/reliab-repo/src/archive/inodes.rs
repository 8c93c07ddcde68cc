//! Which file systems give a file a number that stays its own: only there is content taken unread by inode.

use rustix::io::Errno;

/// Types of file systems (`f_type`, statfs(2)) that keep a file's number on the disk, or on the server.
///
/// All others are read: FUSE programs (such as sshfs) and 9p count anew with each mount, and so do FAT and CIFS where the disk or
/// the server has no numbers; what is not known may do so, too.
const STABLE: [u32; 17] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
    0xF2F5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x794C_7630, // overlayfs: of the file below
    0xF15F,      // eCryptfs: of the file below
    0x6969,      // NFS
    0x00C3_6400, // Ceph
    0x7461_636F, // OCFS2
    0x0116_1970, // GFS2
    0x3153_464A, // JFS
    0x5265_4973, // ReiserFS
    0x3434,      // NILFS2
    0x2405_1905, // UBIFS
];

/// What is known of the devices of a run; there are few.
#[derive(Default)]
pub(super) struct Inodes {
    devices: Vec<(u64, bool)>,
}

impl Inodes {
    /// True if numbers on a device mean something; `ask` gives its type and is called once for each.
    pub(super) fn are_stable(&mut self, device: u64, ask: impl FnOnce() -> Result<u32, Errno>) -> bool {
        if let Some(&(_, stable)) = self.devices.iter().find(|(known, _)| *known == device) {
            return stable;
        }
        // The file may be gone; another one on the device will tell.
        let Ok(kind) = ask() else { return false };
        let stable = STABLE.contains(&kind);
        self.devices.push((device, stable));
        stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_trusted_by_the_type_of_the_file_system_alone() {
        let check = |kind: u32, stable: bool| {
            assert_eq!(Inodes::default().are_stable(1, || Ok(kind)), stable, "{kind:x}");
        };
        // ext4, XFS, Btrfs, ZFS, tmpfs, overlayfs, NFS.
        for kind in [0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1, 0x0102_1994, 0x794C_7630, 0x6969] {
            check(kind, true);
        }
        // FUSE, CIFS, SMB2, SMB, 9p, FAT, exFAT, ISO 9660, squashfs, HFS+, NTFS, ramfs, one that does not exist.
        for kind in [
            0x6573_5546,
            0xFF53_4D42,
            0xFE53_4D42,
            0x517B,
            0x0102_1997,
            0x4D44,
            0x2011_BAB0,
            0x9660,
            0x7371_7368,
            0x482B,
            0x5346_544E,
            0x8584_58F6,
            0x1234_5678,
        ] {
            check(kind, false);
        }
    }

    #[test]
    fn each_device_is_asked_for_once() {
        let (mut inodes, mut asked) = (Inodes::default(), Vec::new());
        // A file that vanished, then those of a local disk, of sshfs, and of the disk again.
        let answers =
            [(1, Err(Errno::NOENT)), (1, Ok(0xEF53)), (2, Ok(0x6573_5546)), (1, Ok(0)), (2, Ok(0xEF53))];
        let mut told = Vec::new();
        for (device, answer) in answers {
            told.push(inodes.are_stable(device, || {
                asked.push(device);
                answer
            }));
        }
        assert_eq!(told, [false, true, false, true, false]);
        assert_eq!(asked, [1, 1, 2]);
    }
}
