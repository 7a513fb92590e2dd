//! A relay that answers as a test says.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What is done about one command.
pub(super) enum Act {
    /// Says these lines.
    Say(&'static str),
    /// Closes the connection.
    Close,
    /// Says nothing until the client goes.
    Wait,
}

/// Listens on a free port of loopback and remembers what it is told.
pub(super) struct Relay {
    pub(super) url: String,
    heard: Arc<Mutex<Vec<String>>>,
    accepting: tokio::task::JoinHandle<()>,
}

/// What a relay usually says to a command; `""` is the greeting, `.` the end of the content.
pub(super) fn usual(command: &str) -> Act {
    Act::Say(match command {
        "" => "220 relay",
        "EHLO" => "250-relay\r\n250 AUTH PLAIN",
        "AUTH" => "235 2.7.0 in",
        "DATA" => "354 go on",
        "." => "250 2.0.0 queued as 7",
        "QUIT" => "221 bye",
        _ => "250 fine",
    })
}

impl Relay {
    /// `answer` is given the command's first word and the whole line.
    pub(super) async fn answering(
        answer: impl Fn(&str, &str) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&heard), Arc::new(answer));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                tokio::spawn(async move {
                    let _ = serve(stream, &kept, &*answer).await;
                });
            }
        });
        Self { url, heard, accepting }
    }

    /// Says what is usual to every command but one.
    pub(super) async fn but(command: &'static str, act: fn() -> Act) -> Self {
        Self::answering(move |word, _| if word == command { act() } else { usual(word) }).await
    }

    /// Every line so far.
    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().clone()
    }

    /// First words of the commands so far.
    pub(super) fn words(&self) -> Vec<String> {
        let lines = self.heard();
        let mut in_content = false;
        let mut words = Vec::new();
        for line in lines {
            let word = line.split(' ').next().unwrap_or_default();
            in_content = in_content && line != ".";
            if !in_content && line != "." {
                words.push(word.to_owned());
            }
            in_content |= word == "DATA";
        }
        words
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    stream: TcpStream,
    heard: &Mutex<Vec<String>>,
    answer: &(impl Fn(&str, &str) -> Act + Send + Sync),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut content) = (String::new(), false);
    loop {
        let word = line.split([' ', ':']).next().unwrap_or_default();
        if !content || line == "." {
            match answer(word, &line) {
                Act::Say(lines) => {
                    stream.write_all(format!("{lines}\r\n").as_bytes()).await?;
                    content = word == "DATA" && lines.starts_with("354");
                }
                Act::Close => return Ok(()),
                Act::Wait => {
                    let mut rest = String::new();
                    while stream.read_line(&mut rest).await? > 0 {}
                    return Ok(());
                }
            }
        }
        let mut next = String::new();
        if stream.read_line(&mut next).await? == 0 {
            return Ok(());
        }
        line = next.trim_end_matches(['\r', '\n']).to_owned();
        heard.lock().push(line.clone());
    }
}
