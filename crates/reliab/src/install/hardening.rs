//! What each tool may do under systemd: no more than it needs.

use super::job::Job;

/// What holds for every job.
const ALWAYS: &str = "\
NoNewPrivileges=yes
PrivateTmp={tmp}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@resources @privileged
SystemCallErrorNumber=EPERM
";

/// What a user's systemd can give without privileges.
const FOR_USERS: &str = "\
NoNewPrivileges=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// Reads any file, writes the repository, keeps owners.
///
/// Neither it nor `restore` has `RestrictSUIDSGID=`: that takes openat2(2) away, by which both follow no symbolic link.
const BACKUP: &str = "\
Nice=10
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectProc=invisible
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER
";

/// Makes files of every kind in a scratch folder: owners, devices, file capabilities, set-user-ID bits.
const RESTORE: &str = "\
Nice=10
ProtectSystem=strict
ProtectHome=read-only
DevicePolicy=closed
ProtectProc=invisible
Environment=TMPDIR=/var/tmp
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_MKNOD CAP_SETFCAP
";

/// Comes after what holds for every job: the last line about a call counts, and `@privileged` has these in it.
const RESTORE_CALLS: &str = "SystemCallFilter=@chown\n";

/// Sees the file systems of the machine as they are.
///
/// `ProtectSystem=` and `ProtectHome=` mount everything again, read-only or not at all, and then every disk would
/// look read-only or absent. The tool has nothing to write with instead: no capability but to look. It finds disks by
/// the names in /dev/disk, which `PrivateDevices=` would hide, and may open none of them.
const DISK: &str = "\
ProtectSystem=no
ProtectHome=no
PrivateDevices=no
DevicePolicy=closed
RestrictSUIDSGID=yes
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
";

/// Asks over the network, reads configuration and secrets, writes nothing but state.
const ASK: &str = "\
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectProc=invisible
RestrictSUIDSGID=yes
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
";

/// The lines for a job.
pub fn lines(job: &Job, user: bool) -> String {
    if user {
        let opens_trees = matches!(job.tool.as_str(), "backup" | "restore");
        return FOR_USERS.to_owned() + if opens_trees { "" } else { "RestrictSUIDSGID=yes\n" };
    }
    let own = match job.tool.as_str() {
        "backup" => BACKUP,
        "restore" => RESTORE,
        "disk" => DISK,
        _ => ASK,
    };
    // The folder of metrics, for one, belongs to the user of node_exporter.
    let may_write = job.tool == "status" && !job.writes.is_empty();
    let own = if may_write { own.replace("=CAP_", "=CAP_DAC_OVERRIDE CAP_") } else { own.to_owned() };
    // A private /tmp would hide what a job is to read there, and is one more mount.
    let in_tmp = |path: &std::path::PathBuf| path.starts_with("/tmp") || path.starts_with("/var/tmp");
    let all = job.reads.iter().chain(&job.writes).chain([&job.folder]);
    let shares_tmp = job.tool == "disk" || all.into_iter().any(in_tmp);
    let calls = if job.tool == "restore" { RESTORE_CALLS } else { "" };
    own + &ALWAYS.replace("{tmp}", if shares_tmp { "no" } else { "yes" }) + calls
}
