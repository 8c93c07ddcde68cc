//! Certificates of all kinds, from an authority made for the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};

const DAY: u64 = 86_400;

/// Files in a folder: `ca.pem`, and `NAME.pem` with `NAME.key` for each certificate.
pub struct Certificates {
    pub folder: PathBuf,
}

fn params(name: &str, names: &[&str], since_days: u64, left_days: i64) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now - since_days * DAY);
    params.not_after = at(now.checked_add_signed(left_days * 86_400).unwrap());
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, &[], 10, 3650);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Certificates {
    /// Makes them all.
    pub fn make(folder: &Path) -> Self {
        let root =
            CertifiedIssuer::self_signed(authority("Test Root"), KeyPair::generate().unwrap()).unwrap();
        let middle =
            CertifiedIssuer::signed_by(authority("Test Intermediate"), KeyPair::generate().unwrap(), &root)
                .unwrap();
        let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        put("ca.pem", &root.pem());
        let chain = |name: &str, params: CertificateParams, complete: bool| {
            let key = KeyPair::generate().unwrap();
            let leaf = params.signed_by(&key, &middle).unwrap().pem();
            put(&format!("{name}.pem"), &if complete { leaf + &middle.pem() } else { leaf });
            put(&format!("{name}.key"), &key.serialize_pem());
        };
        let names = ["localhost", "127.0.0.1"];
        chain("good", params("localhost", &names, 1, 89), true);
        chain("late", params("localhost", &names, 70, 20), true);
        chain("expired", params("localhost", &names, 90, -3), true);
        chain("other", params("other.test", &["other.test"], 1, 89), true);
        chain("incomplete", params("localhost", &names, 1, 89), false);
        chain("client", params("reliab", &["reliab.test"], 1, 89), true);
        let key = KeyPair::generate().unwrap();
        put("self.pem", &params("localhost", &names, 1, 89).self_signed(&key).unwrap().pem());
        put("self.key", &key.serialize_pem());
        Self { folder: folder.to_owned() }
    }

    pub fn ca(&self) -> String {
        self.folder.join("ca.pem").display().to_string()
    }

    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}
