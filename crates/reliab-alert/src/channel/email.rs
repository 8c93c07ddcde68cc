//! Mail, through a server that must offer TLS unless the configuration says otherwise.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::{Error, response::Response};
use reliab_common::config::channel::{Email as Config, Smtp, SmtpTls};
use reliab_common::secret::Secret;

use super::{Class, Outgoing, SendError, text, tls};

const CONNECT: Duration = Duration::from_secs(10);
/// The mail is delivered when the server has said so; a farewell is no reason to wait.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) struct Email {
    from: Mailbox,
    to: Vec<Mailbox>,
    smtp: Smtp,
    password: Option<Secret>,
    tls: Option<TlsParameters>,
}

impl Email {
    pub(super) fn new(config: &Config, password: Option<Secret>) -> Result<Self, SendError> {
        let mailbox = |text: &String| {
            text.parse()
                .map_err(|error| SendError::passing(format!("`{text}` is not a mail address: {error}")))
        };
        let to: Vec<Mailbox> = config.to.iter().map(mailbox).collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(SendError::passing("its list `to` is empty: name who gets the mail"));
        }
        if password.is_some() && config.smtp.tls == SmtpTls::None && !is_local(&config.smtp.host) {
            let text = "a password is not sent without TLS: set `tls` to \"starttls\" or \"tls\"";
            return Err(SendError::passing(text));
        }
        let smtp = config.smtp.clone();
        Ok(Self { from: mailbox(&config.from)?, to, tls: parameters(&smtp)?, smtp, password })
    }

    pub(super) async fn send(&self, out: &Outgoing<'_>) -> Result<String, SendError> {
        let mail = self.mail(out)?.formatted();
        let hello = ClientId::Domain(domain(&out.message.host));
        let mut connection = self.connect(&hello).await.map_err(classified)?;
        self.log_in(&mut connection).await?;
        let said = self.hand_over(&mut connection, &mail).await;
        // Whatever comes of it, the server's answer to the mail stands.
        let _ = tokio::time::timeout(FAREWELL, connection.quit()).await;
        said
    }

    async fn connect(&self, hello: &ClientId) -> Result<AsyncSmtpConnection, Error> {
        let server = (self.smtp.host.as_str(), self.smtp.port());
        let at_once = self.tls.clone().filter(|_| self.smtp.tls == SmtpTls::Tls);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT), hello, at_once, None).await?;
        if let (SmtpTls::StartTls, Some(tls)) = (self.smtp.tls, &self.tls) {
            connection.starttls(tls.clone(), hello).await?;
        }
        Ok(connection)
    }

    async fn log_in(&self, connection: &mut AsyncSmtpConnection) -> Result<(), SendError> {
        let (Some(user), Some(password)) = (&self.smtp.user, &self.password) else { return Ok(()) };
        let credentials = Credentials::new(user.clone(), password.expose().to_owned());
        match connection.auth(DEFAULT_MECHANISMS, &credentials).await {
            Ok(_) => Ok(()),
            // A refused password is wrong for every mail.
            Err(error) if error.is_permanent() => Err(SendError::new(Class::Channel, text::chain(&error))),
            Err(error) => Err(classified(error)),
        }
    }

    /// Gives the mail to the server for those of its readers that it knows; one wrong address costs the others nothing.
    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &[u8],
    ) -> Result<String, SendError> {
        let sender = Mail::new(Some(self.from.email.clone()), self.parameters(connection, mail)?);
        connection.command(sender).await.map_err(classified)?;
        let mut refused = Vec::new();
        for reader in &self.to {
            match connection.command(Rcpt::new(reader.email.clone(), Vec::new())).await {
                Ok(_) => {}
                Err(error) if error.is_permanent() && refused.len() + 1 < self.to.len() => {
                    refused.push(format!("not to {}: {}", reader.email, text::chain(&error)));
                }
                Err(error) if error.is_permanent() && !refused.is_empty() => {
                    refused.push(format!("not to {}: {}", reader.email, text::chain(&error)));
                    return Err(SendError::new(Class::Message, refused.join("; ")));
                }
                // One reader that is refused for now holds all back: the mail would come twice to the others.
                Err(error) => return Err(classified(error)),
            }
        }
        connection.command(Data).await.map_err(classified)?;
        let response = connection.message(mail).await.map_err(classified)?;
        refused.insert(0, told(&response));
        Ok(refused.join("; "))
    }

    fn parameters(
        &self,
        connection: &AsyncSmtpConnection,
        mail: &[u8],
    ) -> Result<Vec<MailParameter>, SendError> {
        let server = connection.server_info();
        let mut parameters = Vec::new();
        let envelope = Envelope::new(
            Some(self.from.email.clone()),
            self.to.iter().map(|reader| reader.email.clone()).collect(),
        );
        let foreign = envelope.is_ok_and(|envelope| !envelope_is_ascii(&envelope));
        if foreign && !server.supports_feature(Extension::SmtpUtfEight) {
            let text = "an address is not ASCII, and the server does not take such (SMTPUTF8)";
            return Err(SendError::new(Class::Channel, text));
        }
        parameters.extend(foreign.then_some(MailParameter::SmtpUtfEight));
        let eight = !mail.is_ascii() && server.supports_feature(Extension::EightBitMime);
        parameters.extend(eight.then_some(MailParameter::Body(MailBodyParameter::EightBitMime)));
        Ok(parameters)
    }

    fn mail(&self, out: &Outgoing<'_>) -> Result<lettre::Message, SendError> {
        let message = out.message;
        let host = domain(&message.host);
        let builder = self.to.iter().cloned().fold(MessageBuilder::new(), MessageBuilder::to);
        let builder = builder
            .from(self.from.clone())
            .subject(message.title())
            .date(SystemTime::from(out.now))
            .message_id(Some(format!("<{}@{host}>", local_part(out.key))))
            // Other machines must not answer (RFC 3834).
            .raw_header(raw(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated"))
            .raw_header(raw(HeaderName::new_from_ascii_str("X-Reliab-Key"), out.key))
            .header(ContentType::TEXT_PLAIN);
        // Mails about one incident are shown together.
        let builder = match message.incidents.as_slice() {
            [one] => builder.references(format!("<incident-{}-{}@{host}>", one.id, one.key_time())),
            _ => builder,
        };
        let body = out.lines().join("\r\n") + "\r\n";
        builder.body(body).map_err(|error| SendError::new(Class::Message, text::chain(&error)))
    }
}

/// The password as the mechanisms PLAIN (RFC 4616) and LOGIN send it: what a server may show in its answers.
pub(super) fn shown_as(smtp: &Smtp, password: &Secret) -> [Secret; 2] {
    let (user, password) = (smtp.user.as_deref().unwrap_or_default(), password.expose());
    [format!("\0{user}\0{password}"), password.to_owned()].map(|text| Secret::new(STANDARD.encode(text)))
}

fn parameters(smtp: &Smtp) -> Result<Option<TlsParameters>, SendError> {
    if smtp.tls == SmtpTls::None {
        return Ok(None);
    }
    let mut builder = TlsParameters::builder(smtp.host.clone());
    if let Some(path) = &smtp.ca {
        for certificate in tls::certificates(path)? {
            let certificate = Certificate::from_der(certificate.to_vec()).map_err(classified)?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map(Some).map_err(classified)
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn envelope_is_ascii(envelope: &Envelope) -> bool {
    let ascii = |address: &lettre::Address| AsRef::<str>::as_ref(address).is_ascii();
    envelope.to().iter().chain(envelope.from()).all(ascii)
}

/// A server's 5xx lasts and its 4xx passes (RFC 5321, 4.2.1); so does all that is not an answer.
fn classified(error: Error) -> SendError {
    let class = if error.is_permanent() { Class::Message } else { Class::Passing };
    SendError::new(class, text::chain(&error))
}

fn told(response: &Response) -> String {
    let lines: Vec<&str> = response.message().collect();
    format!("{} {}", response.code(), lines.join(" "))
}

fn raw(name: HeaderName, value: &str) -> HeaderValue {
    HeaderValue::new(name, value.to_owned())
}

/// A host name as a mail may hold it.
fn domain(host: &str) -> String {
    let safe: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).collect();
    if safe.is_empty() { "localhost".into() } else { safe }
}

/// The key as the first half of a Message-ID; characters that cannot stand there are written as their code.
fn local_part(key: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    key.chars().map(|c| if safe(c) { c.to_string() } else { format!(".{:x}", u32::from(c)) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_hosts_become_parts_of_a_message_id() {
        assert_eq!(local_part("web1/7:opened"), "web1.2f7.3aopened");
        assert_ne!(local_part("a/b"), local_part("a:b"));
        assert_eq!(domain("web 1\r\n.example.org"), "web1.example.org");
        assert_eq!(domain("\u{fc}"), "localhost");
    }
}
