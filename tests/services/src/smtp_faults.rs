//! What stands between a sender of mail and a real relay: it passes lines on, and at one step of a
//! session does what a fault says. What the relay took is noted as the relay says it.

use anyhow::{Context as _, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How late a greeting comes that is late.
const LATE: Duration = Duration::from_millis(100);

/// Where in a session something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpStep {
    /// The relay's greeting.
    Greeting,
    /// EHLO.
    Ehlo,
    /// STARTTLS.
    Starttls,
    /// The handshake that follows it. What is within TLS is passed on as it is.
    Handshake,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The end of the content.
    Content,
    /// QUIT.
    Quit,
}

impl SmtpStep {
    /// The steps of a session without TLS.
    pub const PLAIN: [Self; 7] =
        [Self::Greeting, Self::Ehlo, Self::Mail, Self::Rcpt, Self::Data, Self::Content, Self::Quit];

    fn of(line: &str) -> Option<Self> {
        let word = line.trim_end().split([' ', ':']).next().unwrap_or_default();
        match word.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => Some(Self::Ehlo),
            "STARTTLS" => Some(Self::Starttls),
            "MAIL" => Some(Self::Mail),
            "RCPT" => Some(Self::Rcpt),
            "DATA" => Some(Self::Data),
            "QUIT" => Some(Self::Quit),
            _ => None,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpFault {
    /// The greeting comes late, and comes.
    Late,
    /// The relay is not asked, this is answered in its place, and the connection is cut.
    Refused(SmtpStep, u16),
    /// The connection is cut before the relay is asked.
    Cut(SmtpStep),
    /// The relay is asked and answers, and the connection is cut in place of its answer.
    CutAfter(SmtpStep),
    /// The relay is not asked, and nothing is ever answered.
    Silent(SmtpStep),
    /// The relay is asked and answers, and nothing is ever passed on.
    SilentAfter(SmtpStep),
    /// The relay is asked and answers, and only the beginning of its answer is passed on.
    HalfAfter(SmtpStep),
}

impl SmtpFault {
    /// The faults of a seed, the same for the same seed. Every other one strikes at the end of the
    /// content, where it matters most; refusals have one of these codes.
    ///
    /// # Panics
    /// Where there are no codes.
    #[must_use]
    pub fn schedule(seed: u64, faults: usize, codes: &[u16]) -> Vec<Self> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..faults).map(|_| Self::draw(&mut state, codes)).collect()
    }

    fn draw(state: &mut u64, codes: &[u16]) -> Self {
        // xorshift64: a sequence that depends on the seed alone.
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let [which, at, code, late, ..] = (*state >> 16).to_le_bytes().map(usize::from);
        let step = match at % 2 {
            0 => SmtpStep::Content,
            _ => SmtpStep::PLAIN[at / 2 % SmtpStep::PLAIN.len()],
        };
        match which % 6 {
            _ if late < 16 => Self::Late,
            0 => Self::Refused(step, codes[code % codes.len()]),
            1 => Self::Cut(step),
            2 => Self::CutAfter(step),
            3 => Self::Silent(step),
            4 => Self::SilentAfter(step),
            _ => Self::HalfAfter(step),
        }
    }
}

/// What came of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SmtpSession {
    /// What it was to meet.
    pub fault: Option<SmtpFault>,
    /// Whether it met it: who goes before that meets nothing, and the next connection does.
    pub struck: bool,
    /// Whether all of a message was handed over, up to the end of its content.
    pub handed: bool,
    /// Whether the relay said that it took a message.
    pub taken: bool,
    /// Whether what the end of the content is answered with was passed on whole.
    pub answered: bool,
}

impl SmtpSession {
    /// Whether nobody who sent can know what became of the message.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.handed && !self.answered
    }
}

#[derive(Debug, Default)]
struct Notes {
    faults: VecDeque<SmtpFault>,
    sessions: Vec<SmtpSession>,
}

/// A relay behind faults: connection after connection meets the next, until none is left.
#[derive(Debug)]
pub struct FaultySmtp {
    port: u16,
    notes: Arc<Mutex<Notes>>,
    ended: watch::Receiver<usize>,
    serving: JoinHandle<()>,
}

impl FaultySmtp {
    /// Stands before the relay at a port of this machine.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn before(relay: u16, faults: &[SmtpFault]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let faults = faults.iter().copied().collect();
        let notes = Arc::new(Mutex::new(Notes { faults, sessions: Vec::new() }));
        let (tell, ended) = watch::channel(0);
        let kept = Arc::clone(&notes);
        // A sender tries again when it is done with the time before: one after the other.
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(relay) = TcpStream::connect(("127.0.0.1", relay)).await else { return };
                let fault = locked(&kept).faults.front().copied();
                let mut pass = Pass::new(client, relay, fault);
                // An end is an end, whoever made it.
                let _ = pass.run().await;
                let session = pass.session;
                drop(pass);
                let mut notes = locked(&kept);
                if session.struck {
                    notes.faults.pop_front();
                }
                notes.sessions.push(session);
                tell.send_replace(notes.sessions.len());
            }
        });
        Ok(Self { port, notes, ended, serving })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What came of each connection, once so many have ended.
    ///
    /// # Errors
    /// Where they have not within that time.
    pub async fn sessions(&self, number: usize, within: Duration) -> Result<Vec<SmtpSession>> {
        let mut ended = self.ended.clone();
        let waited = tokio::time::timeout(within, ended.wait_for(|ended| *ended >= number)).await;
        let sessions = locked(&self.notes).sessions.clone();
        waited
            .with_context(|| format!("not {number} sessions within {within:?}: {sessions:?}"))?
            .context("the relay is gone")?;
        Ok(sessions)
    }
}

impl Drop for FaultySmtp {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn locked(notes: &Mutex<Notes>) -> std::sync::MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether a session goes on.
type GoesOn = bool;

struct Pass {
    from_client: BufReader<OwnedReadHalf>,
    to_client: OwnedWriteHalf,
    from_relay: BufReader<OwnedReadHalf>,
    to_relay: OwnedWriteHalf,
    session: SmtpSession,
}

impl Pass {
    fn new(client: TcpStream, relay: TcpStream, fault: Option<SmtpFault>) -> Self {
        let (from_client, to_client) = client.into_split();
        let (from_relay, to_relay) = relay.into_split();
        let (from_client, from_relay) = (BufReader::new(from_client), BufReader::new(from_relay));
        let session = SmtpSession { fault, ..SmtpSession::default() };
        Self { from_client, to_client, from_relay, to_relay, session }
    }

    async fn run(&mut self) -> std::io::Result<()> {
        if self.session.fault == Some(SmtpFault::Late) {
            tokio::time::sleep(LATE).await;
            self.session.struck = true;
        }
        if !self.exchange(SmtpStep::Greeting, "").await?.1 {
            return Ok(());
        }
        while let Some(line) = read_line(&mut self.from_client).await? {
            let Some(step) = SmtpStep::of(&line) else {
                self.to_relay.write_all(line.as_bytes()).await?;
                let answer = self.answer().await?;
                self.to_client.write_all(answer.as_bytes()).await?;
                continue;
            };
            let (answer, goes_on) = self.exchange(step, &line).await?;
            if !goes_on {
                return Ok(());
            }
            if step == SmtpStep::Starttls && answer.starts_with("220") {
                return if self.exchange_sealed().await? {
                    self.pass_sealed().await
                } else {
                    Ok(())
                };
            }
            if step == SmtpStep::Data && answer.starts_with("354") && !self.content().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn content(&mut self) -> std::io::Result<GoesOn> {
        let mut content = String::new();
        while !content.ends_with("\r\n.\r\n") {
            let Some(line) = read_line(&mut self.from_client).await? else { return Ok(false) };
            content.push_str(&line);
        }
        self.session.handed = true;
        let (_, goes_on) = self.exchange(SmtpStep::Content, &content).await?;
        Ok(goes_on)
    }

    /// Has the relay asked and answered for, unless that goes wrong; what it answered.
    async fn exchange(&mut self, step: SmtpStep, text: &str) -> std::io::Result<(String, GoesOn)> {
        let fault = self.session.fault;
        let at = |at: SmtpStep| at == step;
        let nothing = |goes_on| Ok((String::new(), goes_on));
        match fault {
            Some(SmtpFault::Refused(here, code)) if at(here) => {
                self.session.struck = true;
                self.pass_on(step, &format!("{code} 4.0.0 not now\r\n")).await?;
                return nothing(false);
            }
            Some(SmtpFault::Cut(here)) if at(here) => {
                self.session.struck = true;
                return nothing(false);
            }
            Some(SmtpFault::Silent(here)) if at(here) => return nothing(self.silence().await?),
            _ => {}
        }
        self.to_relay.write_all(text.as_bytes()).await?;
        let answer = self.answer().await?;
        self.session.taken |= step == SmtpStep::Content && answer.starts_with("250");
        match fault {
            Some(SmtpFault::CutAfter(here)) if at(here) => {
                self.session.struck = true;
                nothing(false)
            }
            Some(SmtpFault::SilentAfter(here)) if at(here) => nothing(self.silence().await?),
            Some(SmtpFault::HalfAfter(here)) if at(here) => {
                self.to_client.write_all(&answer.as_bytes()[..2]).await?;
                nothing(self.silence().await?)
            }
            _ => {
                self.pass_on(step, &answer).await?;
                Ok((answer, true))
            }
        }
    }

    async fn pass_on(&mut self, step: SmtpStep, answer: &str) -> std::io::Result<()> {
        self.to_client.write_all(answer.as_bytes()).await?;
        self.session.answered |= step == SmtpStep::Content;
        Ok(())
    }

    /// Says nothing until the other side goes.
    async fn silence(&mut self) -> std::io::Result<GoesOn> {
        self.session.struck = true;
        let mut rest = Vec::new();
        self.from_client.read_to_end(&mut rest).await?;
        Ok(false)
    }

    /// Goes wrong where a handshake is to begin, if that is where.
    async fn exchange_sealed(&mut self) -> std::io::Result<GoesOn> {
        use SmtpFault::{Cut, CutAfter, HalfAfter, Late, Refused, Silent, SilentAfter};
        const HERE: SmtpStep = SmtpStep::Handshake;
        match self.session.fault {
            Some(Refused(HERE, code)) => {
                self.session.struck = true;
                self.pass_on(HERE, &format!("{code} 4.0.0 this is no TLS\r\n")).await?;
                Ok(false)
            }
            Some(Cut(HERE) | CutAfter(HERE)) => {
                self.session.struck = true;
                Ok(false)
            }
            Some(Silent(HERE) | SilentAfter(HERE) | HalfAfter(HERE)) => self.silence().await,
            None
            | Some(
                Late | Refused(..) | Cut(_) | CutAfter(_) | Silent(_) | SilentAfter(_)
                | HalfAfter(_),
            ) => Ok(true),
        }
    }

    /// Bytes, both ways, until both sides are gone.
    async fn pass_sealed(&mut self) -> std::io::Result<()> {
        let up = async {
            tokio::io::copy_buf(&mut self.from_client, &mut self.to_relay).await?;
            self.to_relay.shutdown().await
        };
        let down = async {
            tokio::io::copy_buf(&mut self.from_relay, &mut self.to_client).await?;
            self.to_client.shutdown().await
        };
        tokio::try_join!(up, down).map(drop)
    }

    /// One answer of the relay, of as many lines as it has.
    async fn answer(&mut self) -> std::io::Result<String> {
        let mut all = String::new();
        loop {
            let line = read_line(&mut self.from_relay).await?;
            let line = line.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            all.push_str(&line);
            if is_last {
                return Ok(all);
            }
        }
    }
}

async fn read_line(from: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    Ok((from.read_line(&mut line).await? > 0).then_some(line))
}
