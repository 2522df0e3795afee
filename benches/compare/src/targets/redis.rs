//! One Redis server that syncs each write before it answers, and the little of its protocol that is
//! needed to speak to it.

use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::processes::{Process, free_ports};

const READY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The server.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    process: Process,
}

impl Server {
    pub(crate) async fn start() -> Result<Server> {
        let ([port], dir) = (free_ports()?, TempDir::new()?);
        let process = run(&dir, port)?;
        let mut server = Server { dir, port, process };
        server.until_ready().await?;
        Ok(server)
    }

    pub(crate) async fn connection(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = run(&self.dir, self.port)?;
        self.until_ready().await
    }

    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.process.time()
    }

    /// Waits until it has read what it had.
    async fn until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Ok(mut connection) = self.connection().await
                && connection.ask(&[b"PING"]).await? == "+PONG"
            {
                return Ok(());
            }
            if let Some(ended) = self.process.ended() {
                return Err(format!("the server of Redis ended: {ended}").into());
            }
            if began.elapsed() > READY_MAX {
                return Err("the server of Redis is not ready".into());
            }
            sleep(LOOK).await;
        }
    }
}

fn run(dir: &TempDir, port: u16) -> Result<Process> {
    let (port, data) = (port.to_string(), dir.path().display().to_string());
    let settings = [
        ("--port", &*port),
        ("--bind", "127.0.0.1"),
        ("--dir", &data),
        ("--appendonly", "yes"),
        ("--appendfsync", "always"),
        // No snapshots beside the log.
        ("--save", ""),
    ];
    let settings = settings.into_iter().flat_map(|(name, value)| [name, value]);
    Process::start("redis-server", settings, dir.path())
}

/// One connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        match self.ask(&[b"SET", key.as_bytes(), value]).await?.as_str() {
            "+OK" => Ok(()),
            other => Err(format!("SET {key}: {other}").into()),
        }
    }

    pub(crate) async fn get(&mut self, key: &str) -> Result<Bytes> {
        let answer = self.ask(&[b"GET", key.as_bytes()]).await?;
        let length = answer.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
        let length = length.ok_or_else(|| format!("GET {key}: {answer}"))?;
        let mut value = vec![0; length + 2];
        self.0.read_exact(&mut value).await?;
        value.truncate(length);
        Ok(value.into())
    }

    /// Sends a command, and reads the first line of the answer.
    async fn ask(&mut self, words: &[&[u8]]) -> Result<String> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        self.0.write_all(&command).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    }
}
