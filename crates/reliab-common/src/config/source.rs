//! The configuration file as it was written: where it is, its text, the secrets it names.

use std::path::{Path, PathBuf};

use super::{Channels, Config, ConfigError, is_absent, read, trust, usual_places};
use crate::paths::Env;
use crate::secret::SecretSource;

/// A configuration file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// The file, as it was named or found.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
}

/// A secret that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// The key that names it, such as `channel.mail.password`.
    pub key: String,
    /// Where it is.
    pub source: SecretSource,
}

impl ConfigFile {
    /// Reads the first configuration file there is: `explicit`, `$RELIAB_CONFIG`, the one in the working folder
    /// `cwd`, the user's, the machine's; of the last three, one that others could have written is an error.
    pub fn find(explicit: Option<&Path>, env: &Env, cwd: &Path) -> Result<Option<Self>, ConfigError> {
        let named = explicit.or_else(|| env.var("RELIAB_CONFIG").map(Path::new));
        if let Some(path) = named {
            let content = read(&cwd.join(path))?;
            return Ok(Some(Self { path: path.to_owned(), content }));
        }
        for path in usual_places(env, cwd) {
            match trust::read(&path) {
                Ok(content) => {
                    let path = path.strip_prefix(cwd).unwrap_or(&path).to_owned();
                    return Ok(Some(Self { path, content }));
                }
                Err(ConfigError::Read { source, .. }) if is_absent(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What the file says.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        Config::parse(&self.path, &self.content)
    }

    /// The channels that can be read by themselves, where the file as a whole cannot; none where it is not TOML.
    pub fn channels(&self) -> Channels {
        let text = String::from_utf8_lossy(&self.content);
        let table = text.parse::<toml::Table>().unwrap_or_default();
        let channels = table.get("channel").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        channels.into_iter().filter_map(|(name, keys)| Some((name, keys.try_into().ok()?))).collect()
    }

    /// The secrets that the file names, in its order; none where it is not TOML.
    pub fn secrets(&self) -> Vec<NamedSecret> {
        let text = String::from_utf8_lossy(&self.content);
        let mut found = Vec::new();
        if let Ok(table) = text.parse::<toml::Table>() {
            gather("", &toml::Value::Table(table), &mut found);
        }
        found
    }
}

/// A secret is a table with nothing but `file` or `env` in it, wherever it stands.
fn gather(key: &str, value: &toml::Value, found: &mut Vec<NamedSecret>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        toml::Value::Table(table) if table.len() == 1 => match value.clone().try_into::<SecretSource>() {
            Ok(source) => found.push(NamedSecret { key: key.to_owned(), source }),
            Err(_) => table.iter().for_each(|(name, value)| gather(&below(name), value, found)),
        },
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| gather(&below(name), value, found));
        }
        toml::Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| gather(&format!("{key}[{at}]"), value, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        let content = br#"
            [channel.mail]
            type = "email"
            password = { file = "smtp-password" }
            [[probe]]
            name = "api"
            http = { url = "https://example.org", bearer = { env = "TOKEN" } }
            [backup]
            repository = "file"
        "#;
        let file = ConfigFile { path: "reliab.toml".into(), content: content.to_vec() };
        let found: Vec<_> = file.secrets().into_iter().map(|secret| (secret.key, secret.source)).collect();
        let expected = [
            ("channel.mail.password".to_owned(), SecretSource::File("smtp-password".into())),
            ("probe[0].http.bearer".to_owned(), SecretSource::Env("TOKEN".into())),
        ];
        assert_eq!(found, expected);
        let broken = ConfigFile { path: "reliab.toml".into(), content: b"[channel".to_vec() };
        assert_eq!(broken.secrets(), []);
    }
}
