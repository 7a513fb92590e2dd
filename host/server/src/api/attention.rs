//! What people do about alerts and notifications.

use sentinel_alerting::routing::Way;
use sentinel_model::alert::{Alert, Delivery};
use sentinel_model::attention::{Acknowledgement, Attempt, Silence};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Somebody takes an alert in hand, or hands it over.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AcknowledgeBody {
    /// Who says so.
    pub by: String,
    /// Who has it in hand from now on; whoever says so where absent.
    #[serde(default)]
    pub to: Option<String>,
    /// In their words.
    #[serde(default)]
    pub note: String,
    /// After how long it lapses though the alert fires, such as `2h`; never where absent.
    #[serde(default, rename = "for")]
    pub lasts: Option<String>,
}

/// An acknowledgement.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AcknowledgedBody {
    /// Who has the alert in hand, since when, and who had it before.
    #[schema(value_type = Object)]
    pub acknowledgement: Acknowledgement,
}

/// A silence to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SilenceBody {
    /// Conditions on an alert's labels, such as `agent="web-1"`; all must hold.
    pub matchers: Vec<String>,
    /// How long, such as `2h`.
    #[serde(rename = "for")]
    pub lasts: String,
    /// From when, unix milliseconds; now where absent.
    #[serde(default)]
    pub starts_at: Option<i64>,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// A silence, and what it means now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SilencedBody {
    /// The silence.
    #[schema(value_type = Object)]
    pub silence: Silence,
    /// Alerts that are pending or fire now and that it means.
    #[schema(value_type = Vec<Object>)]
    pub alerts: Vec<Alert>,
}

/// Conditions of a silence that nobody has made yet.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PreviewBody {
    /// As in a silence.
    pub matchers: Vec<String>,
}

/// Silences, the one that ends last first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SilencesBody {
    /// Those that were asked for.
    #[schema(value_type = Vec<Object>)]
    pub silences: Vec<Silence>,
}

/// Who does something.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ByBody {
    /// Who.
    pub by: String,
}

/// One notification with all that became of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NotificationBody {
    /// What is told, and where it stands.
    #[schema(value_type = Object)]
    pub delivery: Delivery,
    /// Every attempt, earliest first.
    #[schema(value_type = Vec<Object>)]
    pub attempts: Vec<Attempt>,
}

/// A test of a notifier that was begun.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TestBody {
    /// The id of the notification that tells it.
    pub id: String,
}

/// How the alerts of a rule come to people.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct WaysBody {
    /// The worker that keeps alerts, by whose routes this is; absent where none said lately that it
    /// does. Then nothing is known.
    pub keeper: Option<String>,
    /// When it said how it routes, unix milliseconds.
    pub stated_at: i64,
    /// Alerts that are pending or fire, a thousand at most.
    pub alerts: Vec<WayBody>,
}

/// How one alert comes to people.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WayBody {
    /// The alert.
    pub fingerprint: String,
    /// Each group in which it is told: the conditions of the routes on the way, whom, when it was
    /// told, when it is told next, and why it is not.
    #[schema(value_type = Vec<Object>)]
    pub ways: Vec<Way>,
}
