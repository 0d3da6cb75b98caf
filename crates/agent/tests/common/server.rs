//! A control plane that remembers what it was told, and says what a test wants said.

use lindos_api::agent::{
    LOG_CHUNK_PATH, LogChunk, MESSAGES_PATH, Message, REPORT_PATH, Report, ReportAck,
};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer on any machine that we know.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Heard {
    reports: Vec<(Report, Instant)>,
    chunks: Vec<LogChunk>,
    /// Reports before this one are no news to a test that has since said something.
    mark: usize,
    /// Says something to the agent of this incarnation.
    stream: Option<(u64, mpsc::Sender<String>)>,
    connections: Vec<TcpStream>,
}

struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
    token: String,
    away: AtomicBool,
    /// How many of the next reports are answered with an error.
    refuse: Mutex<u32>,
}

pub struct FakeServer {
    file: PathBuf,
    shared: Arc<Shared>,
}

impl FakeServer {
    pub fn start(file: &Path) -> FakeServer {
        let mut server = FakeServer { file: file.to_path_buf(), shared: Shared::new("0") };
        server.listen();
        server
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = self.shared.clone();
        let text = serde_json::json!({ "url": url, "token": shared.token, "pid": 1 });
        std::fs::write(&self.file, text.to_string()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.away.load(Ordering::SeqCst) {
                    return;
                }
                shared.heard.lock().unwrap().connections.push(stream.try_clone().unwrap());
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
    }

    /// Goes away, as by `kill -9`.
    pub fn go_away(&mut self) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let known: serde_json::Value = serde_json::from_str(&text).unwrap();
        std::fs::remove_file(&self.file).unwrap();
        self.shared.away.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(known["url"].as_str().unwrap().trim_start_matches("http://"));
        for stream in self.shared.heard.lock().unwrap().connections.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Comes back on another port, with another token and no memory.
    pub fn come_back(&mut self) {
        self.shared = Shared::new("1");
        self.listen();
    }

    pub fn refuse_next(&self, count: u32) {
        *self.shared.refuse.lock().unwrap() = count;
    }

    pub fn newest(&self) -> Option<Report> {
        self.shared.heard.lock().unwrap().reports.last().map(|(report, _)| report.clone())
    }

    pub fn reports(&self) -> Vec<Report> {
        self.shared.heard.lock().unwrap().reports.iter().map(|(it, _)| it.clone()).collect()
    }

    /// Waits for a report: the newest when the last message was sent, or any after it.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> (Report, Instant) {
        self.wait_heard(what, |heard| {
            heard.reports[heard.mark..].iter().find(|(report, _)| wanted(report)).cloned()
        })
    }

    pub fn wait_chunk(&self, request: u64) -> LogChunk {
        self.wait_heard("a piece of a log", |heard| {
            heard.chunks.iter().find(|chunk| chunk.request == request).cloned()
        })
    }

    pub fn send(&self, message: &Message) {
        let line = serde_json::to_string(message).unwrap();
        let stream = self.wait_heard("a stream to the agent", |heard| {
            // That of an agent that was killed breaks only when it is written to.
            let (newest, _) = heard.reports.last()?;
            heard.stream.as_ref().filter(|(it, _)| *it == newest.incarnation).cloned()
        });
        self.shared.change(|heard| heard.mark = heard.reports.len().saturating_sub(1));
        stream.1.send(line).unwrap();
    }

    fn wait_heard<T>(&self, what: &str, mut find: impl FnMut(&Heard) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = self.shared.heard.lock().unwrap();
        loop {
            if let Some(found) = find(&heard) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain for {what}; last: {:#?}",
                heard.reports.last()
            );
            heard = self.shared.news.wait_timeout(heard, left).unwrap().0;
        }
    }
}

impl Shared {
    fn new(token: &str) -> Arc<Shared> {
        Arc::new(Shared {
            heard: Mutex::default(),
            news: Condvar::new(),
            token: format!("token-{token}"),
            away: AtomicBool::new(false),
            refuse: Mutex::new(0),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap());
        self.news.notify_all();
    }

    fn take_refusal(&self) -> bool {
        let mut left = self.refuse.lock().unwrap();
        let refused = *left > 0;
        *left = left.saturating_sub(1);
        refused
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some((path, authorized, body)) = read_request(&mut reader) {
        let at = Instant::now();
        if !authorized(&shared.token) {
            answer(&stream, "401 Unauthorized", "{}");
        } else if path == REPORT_PATH {
            if shared.take_refusal() {
                answer(&stream, "503 Service Unavailable", "{}");
                continue;
            }
            let report: Report = serde_json::from_slice(&body).unwrap();
            let ack = ReportAck { seq: report.seq };
            shared.change(|heard| heard.reports.push((report, at)));
            answer(&stream, "200 OK", &serde_json::to_string(&ack).unwrap());
        } else if path == LOG_CHUNK_PATH {
            let chunk = serde_json::from_slice(&body).unwrap();
            shared.change(|heard| heard.chunks.push(chunk));
            answer(&stream, "200 OK", "{}");
        } else if path.starts_with(MESSAGES_PATH) {
            let (sender, lines) = mpsc::channel::<String>();
            let incarnation = path.rsplit('=').next().unwrap().parse().unwrap();
            shared.change(|heard| heard.stream = Some((incarnation, sender)));
            stream_messages(stream, &lines);
            return;
        } else {
            answer(&stream, "404 Not Found", "{}");
        }
    }
}

fn stream_messages(mut stream: TcpStream, lines: &mpsc::Receiver<String>) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";
    let mut next = head.to_string();
    while stream.write_all(next.as_bytes()).is_ok() {
        next = match lines.recv_timeout(Duration::from_millis(500)) {
            Ok(line) => line + "\n",
            Err(RecvTimeoutError::Timeout) => "\n".to_string(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

fn answer(mut stream: &TcpStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes());
}

type Authorized = Box<dyn Fn(&str) -> bool>;

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Authorized, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_string();
    let mut length = 0;
    let mut bearer = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => bearer = value.to_string(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let authorized = Box::new(move |token: &str| bearer == format!("Bearer {token}"));
    Some((path, authorized, body))
}
