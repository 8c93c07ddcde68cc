//! The outbound ping: one request, sent as those of channels are.

use reliab_common::config;
use reliab_common::paths::Env;
use reqwest::Url;

use super::{Keys, SendError, clean, http, safe_url};

/// Asks for the URL; with `failing`, the reason why all is not well, it is posted to what Healthchecks calls `/fail`.
pub(crate) async fn ping(config: &config::Ping, env: &Env, failing: Option<&str>) -> Result<(), SendError> {
    let mut keys = Keys { env, secrets: Vec::new() };
    let result = ask(config, &mut keys, failing).await;
    result.map_err(|error| SendError { text: clean(&error.text, &keys.secrets), ..error })
}

async fn ask(config: &config::Ping, keys: &mut Keys<'_>, failing: Option<&str>) -> Result<(), SendError> {
    let url = http::parsed(&safe_url(keys.read(&config.url)?)?)?;
    let client = http::Client::new(config.ca.as_deref())?;
    let url = if failing.is_some() { below(url, "fail") } else { url };
    http::ask(&client, url, failing, is_yes).await.map(drop)
}

/// Healthchecks answers 200 also where it knows no such URL, or has heard too much of it: `OK (not found)`.
fn is_yes(body: &[u8]) -> bool {
    !body.starts_with(b"OK (")
}

/// The URL with one more segment in its path, before any query.
fn below(mut url: Url, segment: &str) -> Url {
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(segment);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told_below_the_url() {
        let check = |url: &str, expected: &str| {
            assert_eq!(below(Url::parse(url).unwrap(), "fail").as_str(), expected);
        };
        check("https://example.org/uuid", "https://example.org/uuid/fail");
        check("https://example.org/uuid/", "https://example.org/uuid/fail");
        check("https://example.org/key/slug?create=1", "https://example.org/key/slug/fail?create=1");
    }
}
