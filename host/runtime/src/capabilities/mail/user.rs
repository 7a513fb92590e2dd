//! Who this host is to a relay, and a password that appears in nothing which the relay says.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::transport::smtp::authentication::Credentials;
use sentinel_trust::MailGrant;
use zeroize::Zeroizing;

use super::answers::cut;
use super::{MailError, Reply};
use crate::capabilities::SecretSource;

/// What stands where a secret was.
const MASK: &str = "***";

/// A user's name and password, and the forms in which the password goes over the wire.
pub(super) struct User {
    name: String,
    password: Zeroizing<String>,
    masks: Vec<Zeroizing<String>>,
}

impl User {
    /// The user of a grant, if it names one, with the password as it is in the secret store now.
    pub(super) fn of(
        grant: &MailGrant,
        secrets: &dyn SecretSource,
    ) -> Result<Option<Self>, MailError> {
        let (Some(name), Some(secret)) = (&grant.user, &grant.password) else {
            return Ok(None);
        };
        let found = secrets.secret(secret).filter(|found| !found.is_empty());
        let found = found.ok_or_else(|| {
            MailError::Denied(format!("the secret `{secret}` is not in the host's secret store"))
        })?;
        // A line end is what a file with a password usually ends in.
        let text = std::str::from_utf8(&found).ok().map(|text| text.trim_end_matches(['\r', '\n']));
        let text = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
        let text = text.ok_or_else(|| {
            let why = "is not text without control characters and cannot be a password";
            MailError::Denied(format!("the secret `{secret}` {why}"))
        })?;
        let both = Zeroizing::new(format!("\0{name}\0{text}"));
        let masks = vec![
            Zeroizing::new(BASE64_STANDARD.encode(both.as_bytes())),
            Zeroizing::new(BASE64_STANDARD.encode(text)),
            Zeroizing::new(text.to_owned()),
        ];
        Ok(Some(Self { name: name.clone(), password: Zeroizing::new(text.to_owned()), masks }))
    }

    pub(super) fn credentials(&self) -> Credentials {
        Credentials::new(self.name.clone(), self.password.to_string())
    }
}

/// A text of at most [`super::MAX_REPLY_BYTES`] in which the password does not stand. It is cut
/// last: of a password that is cut, a part would stay.
pub(super) fn masked_text(text: String, user: Option<&User>) -> String {
    let masks = user.map_or(&[][..], |user| &user.masks);
    cut(&masks.iter().fold(text, |text, mask| text.replace(mask.as_str(), MASK)))
}

/// The same of a reply.
pub(super) fn masked_reply(reply: Reply, user: Option<&User>) -> Reply {
    Reply { text: masked_text(reply.text, user), ..reply }
}

/// The same of whatever an error says.
pub(super) fn masked(error: MailError, user: Option<&User>) -> MailError {
    let mask = |text| masked_text(text, user);
    match error {
        MailError::Denied(why) => MailError::Denied(mask(why)),
        MailError::Invalid(why) => MailError::Invalid(mask(why)),
        MailError::Unreachable(why) => MailError::Unreachable(mask(why)),
        MailError::Tls(why) => MailError::Tls(mask(why)),
        MailError::Auth(why) => MailError::Auth(mask(why)),
        MailError::Unknown(why) => MailError::Unknown(mask(why)),
        MailError::Temporary(reply) => MailError::Temporary(masked_reply(reply, user)),
        MailError::Rejected(reply) => MailError::Rejected(masked_reply(reply, user)),
        MailError::Throttled(_) => error,
    }
}
