//! Chats and mail through the whole of Sentinel: the real host, real plugins, receivers that are as
//! strict as the services, and a real SMTP server.

use anyhow::{Result, ensure};
use sentinel_e2e::machine::{apply, configuration, keep_secret};
use sentinel_e2e::sentinel::Home;
use sentinel_e2e::{eventually, given};
use sentinel_test_notifiers::{Fault, Faulty, Server, Service, discord, teams, telegram};
use sentinel_test_services::{Mail, Services, SmtpServer, SmtpTls};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);
/// Secrets that the host alone knows; they stand in the URLs.
const SECRET: &str = "7f0e-which-nobody-else-knows";
/// Each service refuses once for now, then takes a message and says so half.
const FAULTS: [Fault; 2] = [Fault::Limited, Fault::TakenAndHalf];

fn chat(name: &str, origin: &str, config: &str) -> String {
    format!(
        "    - slot: {name}
      plugin: sentinel/{name}
      config: {{{config}, timeout: 5s}}
      grants:
        http:
          origins: [\"{origin}\"]
          methods: [POST]
          secrets: [{{name: chat-secret, origin: \"{origin}\", place: url}}]
"
    )
}

/// Waits until a service has so many messages; what they are.
async fn messages<S: Service>(
    server: &Server<Faulty<S>>,
    number: usize,
    of: impl Fn(&S) -> Vec<String>,
) -> Result<Vec<String>> {
    let of = &of;
    let look = || async move {
        let found = server.service.look(|faulty| of(&faulty.service));
        Ok((found.len() >= number).then_some(found))
    };
    eventually("it is told", SOON, look).await
}

/// Told, and told again as a possible repeat, since nobody knows of the first.
fn assert_firing(name: &str, told: &[String], met: &[Fault]) {
    assert_eq!((told.len(), met), (2, &FAULTS[..]), "{name}: {told:?}");
    assert!(!told[0].contains("Possible repeat"), "{name}: {told:?}");
    for words in ["Possible repeat", "machine-is-up", "It runs &"] {
        assert!(told[1].contains(words), "{name}: {words} is missing: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discord_teams_and_telegram_tell_whatever_fails_and_repeat_nothing_silently() -> Result<()>
{
    let discord = Server::start(Faulty::first(discord::Discord::default(), &FAULTS))?;
    let teams = Server::start(Faulty::first(teams::Teams::default(), &FAULTS))?;
    let telegram = Server::start(Faulty::first(telegram::Telegram::default(), &FAULTS))?;
    let home = Home::new()?;
    let slots = [
        chat(
            "discord",
            &discord.origin(),
            &format!("url: \"{}/api/webhooks/1234/{{{{secret:chat-secret}}}}\"", discord.origin()),
        ),
        chat(
            "teams",
            &teams.origin(),
            &format!(
                "url: \"{}/workflows/1/invoke?sp=x&sig={{{{secret:chat-secret}}}}\"",
                teams.origin()
            ),
        ),
        chat(
            "telegram",
            &telegram.origin(),
            &format!("token: chat-secret, chat_id: \"-1001\", api: \"{}\"", telegram.origin()),
        ),
    ];
    home.configure(&configuration(&slots.concat()))?;
    let up = home.up().await?;
    keep_secret(&home, "chat-secret", SECRET.as_bytes())?;
    apply(&home, true)?;
    let texts = |all: &Vec<serde_json::Value>| all.iter().map(ToString::to_string).collect();
    let of_discord = |one: &discord::Discord| texts(&one.messages);
    let of_teams = |one: &teams::Teams| texts(&one.cards);
    let of_telegram = |one: &telegram::Telegram| -> Vec<String> { one.messages.clone() };
    let told = messages(&discord, 2, of_discord).await?;
    assert_firing("discord", &told, &discord.service.look(|one| one.met.clone()));
    let told = messages(&teams, 2, of_teams).await?;
    assert_firing("teams", &told, &teams.service.look(|one| one.met.clone()));
    let told = messages(&telegram, 2, of_telegram).await?;
    let told: Vec<String> = told.iter().map(|one| one.replace("&amp;", "&")).collect();
    assert_firing("telegram", &told, &telegram.service.look(|one| one.met.clone()));

    apply(&home, false)?;
    for (name, told) in [
        ("discord", messages(&discord, 3, of_discord).await?),
        ("teams", messages(&teams, 3, of_teams).await?),
        ("telegram", messages(&telegram, 3, of_telegram).await?),
    ] {
        assert_eq!(told.len(), 3, "{name}: {told:?}");
        assert!(told[2].contains("RESOLVED"), "{name}: {}", told[2]);
    }
    discord.service.look(|one| assert!(one.service.refused.is_empty(), "{:?}", one.service));
    teams.service.look(|one| assert!(one.service.refused.is_empty(), "{:?}", one.service));
    telegram.service.look(|one| assert!(one.service.refused.is_empty(), "{:?}", one.service));
    assert!(!home.log().contains(SECRET), "no secret is logged");
    assert!(up.stop().await?.success());
    Ok(())
}

const PASSWORD: &str = "of a relay that asks";

fn mail(name: &str, scheme: &str, server: &SmtpServer) -> String {
    format!(
        "    - slot: {name}
      plugin: sentinel/smtp
      config: {{from: Sentinel <sentinel@example.com>, to: [ops@example.com]}}
      grants:
        mail:
          relay: {scheme}://127.0.0.1:{port}
          senders: [sentinel@example.com]
          recipients: [\"*@example.com\"]
          user: sentinel
          password: relay-password
          ca_file: {ca}
",
        port = server.port(),
        ca = server.ca_file().display()
    )
}

/// Waits until a server has so many mails; the last of them.
async fn last_mail(server: &SmtpServer, number: usize) -> Result<Mail> {
    let look = || async {
        let found = server.messages()?;
        Ok((found.len() >= number).then_some(found))
    };
    let mut found = eventually("the mail comes", SOON, look).await?;
    ensure!(found.len() == number, "{found:?}");
    Ok(found.remove(number - 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_comes_over_tls_and_starttls_from_a_user_with_a_password() -> Result<()> {
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?;
    let user = Some(("sentinel", PASSWORD));
    let start = |name: &str, tls| SmtpServer::start(&services, &home.path().join(name), tls, user);
    let servers = [start("tls", SmtpTls::Tls)?, start("starttls", SmtpTls::Starttls)?];
    let slots =
        [mail("mail-tls", "smtps", &servers[0]), mail("mail-starttls", "smtp", &servers[1])];
    home.configure(&configuration(&slots.concat()))?;
    let up = home.up().await?;
    keep_secret(&home, "relay-password", PASSWORD.as_bytes())?;
    apply(&home, true)?;
    for server in &servers {
        let mail = last_mail(server, 1).await?;
        assert_eq!((mail.user.as_deref(), mail.tls), (Some("sentinel"), true));
        assert_eq!(mail.sender, "sentinel@example.com");
        assert_eq!(mail.recipients, ["ops@example.com"]);
        let subject = mail.header("subject").unwrap_or_default();
        assert!(subject.contains("machine-is-up") && subject.contains("FIRING"), "{subject}");
        assert!(mail.text.contains("It runs & runs."), "{}", mail.text);
        let html = mail.html.unwrap_or_default();
        assert!(html.contains("It runs &amp; runs."), "{html}");
    }
    apply(&home, false)?;
    for server in &servers {
        let mail = last_mail(server, 2).await?;
        let subject = mail.header("subject").unwrap_or_default().to_owned();
        assert!(subject.contains("RESOLVED"), "{subject}");
    }
    assert!(!home.log().contains(PASSWORD), "no password is logged");
    assert!(up.stop().await?.success());
    Ok(())
}
