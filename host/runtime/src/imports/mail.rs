//! `mail`: sent among the host's I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::small::not_granted;
use crate::bindings::sentinel::plugin::mail as contract;
use crate::capabilities::mail::{MailError, MailGate, Mailbox, Message, Receipt, Reply};
use crate::host::Host;

/// Longest time of `send`: more than any grant allows.
const LIMIT: Duration = Duration::from_secs(130);
/// How long before the call's time is up a delivery ends, so that the guest can tell what came of
/// it: half of a short call's time, and no more than this.
const MARGIN: Duration = Duration::from_millis(500);

impl Host {
    fn mail(&self) -> wasmtime::Result<Arc<MailGate>> {
        Ok(Arc::clone(self.gates.mail.as_ref().ok_or_else(|| not_granted("mail"))?))
    }
}

impl contract::Host for Host {
    async fn send(
        &mut self,
        message: contract::Message,
    ) -> wasmtime::Result<Result<contract::Receipt, contract::MailError>> {
        let gate = self.mail()?;
        let left = self.call.deadline.saturating_duration_since(Instant::now());
        let at_most = left.saturating_sub(MARGIN.min(left / 2));
        let now = self.slot.services.now();
        let work = async move { gate.send(message.into(), now, at_most).await };
        let answer = self.outside("waiting in mail.send", LIMIT, work).await?;
        let answer = answer.unwrap_or_else(|| Err(MailError::Unknown("time ran out".into())));
        Ok(answer.map(contract::Receipt::from).map_err(contract::MailError::from))
    }
}

impl From<contract::Mailbox> for Mailbox {
    fn from(mailbox: contract::Mailbox) -> Self {
        Self { name: mailbox.name, address: mailbox.address }
    }
}

impl From<contract::Message> for Message {
    fn from(message: contract::Message) -> Self {
        let all = |list: Vec<contract::Mailbox>| list.into_iter().map(Mailbox::from).collect();
        Self {
            sender: message.sender.into(),
            to: all(message.to),
            cc: all(message.cc),
            reply_to: message.reply_to.map(Mailbox::from),
            subject: message.subject,
            text: message.text,
            html: message.html,
            idempotency_key: message.idempotency_key,
            in_reply_to: message.in_reply_to,
            timeout_ms: message.timeout_ms,
        }
    }
}

impl From<Reply> for contract::Reply {
    fn from(reply: Reply) -> Self {
        Self { code: reply.code, text: reply.text }
    }
}

impl From<Receipt> for contract::Receipt {
    fn from(receipt: Receipt) -> Self {
        let refusal = |(address, reply): (String, Reply)| contract::Refusal {
            address,
            reply: contract::Reply::from(reply),
        };
        Self {
            message_id: receipt.message_id,
            text: receipt.text,
            refused: receipt.refused.into_iter().map(refusal).collect(),
        }
    }
}

impl From<MailError> for contract::MailError {
    fn from(error: MailError) -> Self {
        match error {
            MailError::Denied(why) => Self::Denied(why),
            MailError::Invalid(why) => Self::Invalid(why),
            MailError::Throttled(wait) => Self::Throttled(wait),
            MailError::Unreachable(why) => Self::Unreachable(why),
            MailError::Tls(why) => Self::Tls(why),
            MailError::Auth(why) => Self::Auth(why),
            MailError::Temporary(reply) => Self::Temporary(reply.into()),
            MailError::Rejected(reply) => Self::Rejected(reply.into()),
            MailError::Unknown(why) => Self::Unknown(why),
        }
    }
}
