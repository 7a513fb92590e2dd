//! The first-party plugin sentinel/webhook.
