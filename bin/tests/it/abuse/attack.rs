//! One stranger on one connection: what it sends and when, how it leaves, and what the node may answer.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{sleep, timeout};

use super::answers::{Answers, Wrong};

/// How long an answer, or the end of a connection, may take on a machine with other work to do.
const DEADLINE: Duration = Duration::from_secs(60);
/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a stranger does.
pub(super) enum Step {
    Send(Vec<u8>),
    /// Sends bytes in pieces of this length with a pause after each.
    Drip {
        bytes: Vec<u8>,
        at_once: usize,
        pause: Duration,
    },
    /// Sends this until the node has had enough.
    Endless(Vec<u8>),
    Wait(Duration),
    /// Leaves as one does that is through.
    Close,
    /// Leaves as one does whose process is killed with something unread.
    Reset,
}

/// What must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// So many answers, whatever they say.
    Answers(usize),
    /// Nothing in particular: the head can't be read, or nobody waits.
    Whatever,
}

/// A stranger.
pub(super) struct Attack {
    pub(super) kind: &'static str,
    pub(super) steps: Vec<Step>,
    pub(super) expected: Expected,
    /// All of its requests are `HEAD`.
    pub(super) is_head: bool,
    /// Whether it reads what it is answered.
    pub(super) reads: bool,
}

impl Attack {
    /// One that sends bytes and waits for an answer.
    pub(super) fn request(kind: &'static str, bytes: Vec<u8>) -> Self {
        Attack {
            kind,
            is_head: bytes.starts_with(b"HEAD "),
            steps: vec![Step::Send(bytes)],
            expected: Expected::Answers(1),
            reads: true,
        }
    }

    /// One that takes what comes.
    pub(super) fn of(kind: &'static str, steps: Vec<Step>) -> Self {
        Attack { kind, steps, expected: Expected::Whatever, is_head: false, reads: true }
    }

    fn leaves(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Close | Step::Reset))
    }

    /// Does it, and holds what came back against what may.
    pub(super) async fn run(&self, address: &str) -> Result<Option<u16>, Wrong> {
        let stream = timeout(DEADLINE, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| "the node takes no connection".to_owned())?;
        let stream = stream.map_err(|error| format!("the node takes no connection: {error}"))?;
        // Pieces are to arrive as such.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        if matches!(self.steps.last(), Some(Step::Reset)) {
            stream.set_zero_linger().map_err(|error| error.to_string())?;
        }
        let (reader, mut writer) = stream.into_split();
        let sending = async {
            // The node may answer and close before all is sent.
            let _ = self.send(&mut writer).await;
            if self.leaves() {
                return;
            }
            if self.expected == Expected::Whatever {
                let _ = writer.shutdown().await;
            }
            std::future::pending().await
        };
        let mut read = Vec::new();
        let ended = timeout(DEADLINE, async {
            tokio::select! {
                ended = self.read(reader, &mut read) => ended.map(Some),
                () = sending => Ok(None),
            }
        });
        let ended = ended.await.map_err(|_| {
            let read = read[..read.len().min(300)].escape_ascii();
            format!("neither an answer nor an end after {DEADLINE:?}, only: {read}")
        })??;
        let answers = Answers::read(&read, self.is_head)?;
        for answer in &answers.0 {
            answer.check(self.is_head, self.expected != Expected::Whatever)?;
        }
        let status = answers.0.first().map(|answer| answer.status);
        let Some(how) = ended else { return Ok(status) };
        match self.expected {
            Expected::Answers(wanted) if answers.0.len() < wanted => {
                Err(format!("{} answers of {wanted}, then {how:?}", answers.0.len()))
            }
            _ => Ok(status),
        }
    }

    async fn send(&self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        for step in &self.steps {
            match step {
                Step::Send(bytes) => writer.write_all(bytes).await?,
                Step::Drip { bytes, at_once, pause } => {
                    for piece in bytes.chunks(*at_once) {
                        writer.write_all(piece).await?;
                        sleep(*pause).await;
                    }
                }
                Step::Endless(bytes) => loop {
                    writer.write_all(bytes).await?;
                },
                Step::Wait(time) => sleep(*time).await,
                Step::Close | Step::Reset => {}
            }
        }
        Ok(())
    }

    /// Reads until all is answered, or to the end.
    async fn read(&self, mut reader: OwnedReadHalf, read: &mut Vec<u8>) -> Result<End, Wrong> {
        if !self.reads {
            std::future::pending::<()>().await;
        }
        loop {
            match reader.read_buf(read).await {
                Ok(0) => return Ok(End::Orderly),
                Ok(_) => {}
                Err(_) => return Ok(End::Broken),
            }
            if read.len() > ANSWER_BYTES_MAX {
                return Err("an answer without end".to_owned());
            }
            if let Expected::Answers(wanted) = self.expected
                && Answers::read(read, self.is_head)?.0.len() >= wanted
            {
                return Ok(End::Answered);
            }
        }
    }
}

/// How it ended for the stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered,
    Orderly,
    Broken,
}

/// What is sent, shortened.
impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |bytes: &[u8]| {
            let shown = bytes[..bytes.len().min(600)].escape_ascii().to_string();
            format!("{} bytes \"{shown}\"", bytes.len())
        };
        write!(f, "{}:", self.kind)?;
        for step in &self.steps {
            match step {
                Step::Send(bytes) => write!(f, " {}", short(bytes))?,
                Step::Drip { bytes, at_once, pause } => {
                    write!(f, " {at_once} each {pause:?} of {}", short(bytes))?;
                }
                Step::Endless(bytes) => write!(f, " without end {}", short(bytes))?,
                Step::Wait(time) => write!(f, " wait {time:?}")?,
                Step::Close => f.write_str(" close")?,
                Step::Reset => f.write_str(" reset")?,
            }
        }
        Ok(())
    }
}
