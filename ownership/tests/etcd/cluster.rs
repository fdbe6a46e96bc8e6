//! Real etcd servers on loopback, or in namespaces. They die with the process that started them, and
//! what they kept with them.

use super::network::Network;
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getppid},
};
use std::{
    env, fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long a cluster may take to have a leader.
const START: Duration = Duration::from_secs(60);

/// Where etcd's programs are.
pub struct Programs {
    /// The server.
    pub etcd: PathBuf,
    /// The tool that restores a snapshot.
    pub etcdctl: PathBuf,
}

impl Programs {
    /// The programs: unpacked by `cargo xtask setup`, or installed.
    pub fn find() -> Option<Self> {
        Some(Self { etcd: find("etcd")?, etcdctl: find("etcdctl")? })
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let own = env::current_exe().unwrap_or_default();
    // target/debug/deps/etcd-0123 and target/etcd/usr/bin.
    let unpacked = own.ancestors().map(|dir| dir.join("etcd/usr/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let installed: Vec<PathBuf> = env::split_paths(&path).collect();
    unpacked.chain(installed).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// What a cluster is started with.
#[derive(Clone, Default)]
pub struct Options {
    /// Arguments that every member gets.
    pub arguments: Vec<String>,
    /// Members talk TLS to clients.
    pub tls: bool,
    /// Each member is in a namespace of its own, behind this one.
    pub network: Option<Network>,
    /// The address of all members where they share a network; the loopback's if there is none.
    pub host: Option<Ipv4Addr>,
}

/// A cluster of etcd servers.
pub struct Cluster {
    members: Vec<Member>,
    programs: Programs,
    options: Options,
    dir: PathBuf,
    sweeper: Option<(Child, ChildStdin)>,
}

struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    metrics: SocketAddr,
    keeper: Option<Keeper>,
    child: Option<Child>,
}

impl Cluster {
    /// Starts so many members and waits until they have a leader.
    pub fn start(programs: Programs, members: usize, options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("jumpgate-etcd-").tempdir().unwrap().keep();
        let sweeper = sweeper(&dir);
        let members = addresses(members, &options)
            .into_iter()
            .enumerate()
            .map(|(at, [client, peer, metrics])| Member {
                name: format!("member-{at}"),
                client,
                peer,
                metrics,
                keeper: Some(Keeper::new(at, options.network)),
                child: None,
            })
            .collect();
        let mut cluster = Self { members, programs, options, dir, sweeper: Some(sweeper) };
        for at in 0..cluster.members.len() {
            cluster.run(at);
        }
        cluster.await_health();
        cluster
    }

    /// How clients reach the members.
    pub fn urls(&self) -> Vec<String> {
        (0..self.members.len()).map(|at| self.url(at)).collect()
    }

    /// How clients reach a member.
    pub fn url(&self, at: usize) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.members[at].client)
    }

    /// Stops a member in its tracks: what is sent to it waits.
    pub fn stop(&self, at: usize) {
        let Some(member) = self.signal(at, Signal::SIGSTOP) else { return };
        // Its threads run on until one of them has seen the signal.
        let stopped = waitpid(member, Some(WaitPidFlag::WUNTRACED)).expect("waiting for a member");
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    }

    /// Lets a stopped member go on.
    pub fn go_on(&self, at: usize) {
        self.signal(at, Signal::SIGCONT);
    }

    /// Kills a member.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            child.kill().expect("killing a member");
            child.wait().expect("waiting for a member's end");
        }
    }

    /// Starts a killed member again, with what it had.
    pub fn run(&mut self, at: usize) {
        let member = &self.members[at];
        let scheme = if self.options.tls { "https" } else { "http" };
        let log = fs::File::options().create(true).append(true).open(self.log(at)).unwrap();
        let mut command = Command::new(&self.programs.etcd);
        command
            .args(["--name", &member.name, "--logger", "zap", "--log-outputs", "stderr"])
            .arg("--data-dir")
            .arg(self.data(at))
            .args(["--listen-client-urls", &format!("{scheme}://{}", member.client)])
            .args(["--advertise-client-urls", &format!("{scheme}://{}", member.client)])
            .args(["--listen-metrics-urls", &format!("http://{}", member.metrics)])
            .args(["--listen-peer-urls", &format!("http://{}", member.peer)])
            .args(self.membership(at))
            .args(["--initial-cluster-state", "new"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = member.keeper.as_ref().expect("until the end").spawn(command);
        self.members[at].child = Some(child.expect("starting etcd"));
    }

    /// Kills all members and forgets what they had; they go on with a snapshot.
    pub fn restore_all(&mut self, snapshot: &Path) {
        for at in 0..self.members.len() {
            self.kill(at);
            fs::remove_dir_all(self.data(at)).expect("forgetting what a member had");
        }
        for at in 0..self.members.len() {
            self.restore(at, snapshot);
            self.run(at);
        }
        self.await_health();
    }

    /// Waits until every member answers with a leader at hand.
    pub fn await_health(&self) {
        let deadline = Instant::now() + START;
        for at in 0..self.members.len() {
            while !self.is_healthy(at) {
                assert!(
                    Instant::now() < deadline,
                    "a member has no leader; it says:\n{}",
                    self.last_words(at)
                );
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Whether a member can answer.
    pub fn is_healthy(&self, at: usize) -> bool {
        self.http(at, "/health").is_ok_and(|answer| answer.contains(r#""health":"true""#))
    }

    /// A number out of what a member measures of itself.
    pub fn measured(&self, at: usize, name: &str) -> f64 {
        let answer = self.http(at, "/metrics").expect("what a member measures");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not measured")).trim().parse().expect("a number")
    }

    /// The member that leads, unless that is just being decided.
    pub async fn leader(&self) -> Option<usize> {
        for at in 0..self.members.len() {
            let Ok(mut client) = etcd_client::Client::connect([self.url(at)], None).await else {
                continue;
            };
            let status = tokio::time::timeout(Duration::from_secs(1), client.status()).await;
            let Ok(Ok(status)) = status else { continue };
            if status.header().is_some_and(|header| header.member_id() == status.leader()) {
                return Some(at);
            }
        }
        None
    }

    /// A member that follows.
    pub async fn follower(&self) -> usize {
        loop {
            if let Some(leader) = self.leader().await {
                return (leader + 1) % self.members.len();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where files can be kept as long as the cluster is there.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn restore(&self, at: usize, snapshot: &Path) {
        let mut command = Command::new(&self.programs.etcdctl);
        command
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .args(["--name", &self.members[at].name])
            .arg("--data-dir")
            .arg(self.data(at))
            .args(self.membership(at));
        let output = command.output().expect("running etcdctl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn membership(&self, at: usize) -> Vec<String> {
        let all: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://{}", member.name, member.peer))
            .collect();
        let own = format!("http://{}", self.members[at].peer);
        let arguments = [
            "--initial-cluster",
            &all.join(","),
            "--initial-cluster-token",
            "jumpgate-test",
            "--initial-advertise-peer-urls",
            &own,
        ];
        arguments.map(str::to_owned).to_vec()
    }

    /// Signals a member that lives, and gives its process.
    fn signal(&self, at: usize, signal: Signal) -> Option<Pid> {
        let member = Pid::from_raw(self.members[at].child.as_ref()?.id() as i32);
        kill(member, signal).expect("signalling a member");
        Some(member)
    }

    fn http(&self, at: usize, path: &str) -> io::Result<String> {
        let limit = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&self.members[at].metrics, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn data(&self, at: usize) -> PathBuf {
        self.dir.join(&self.members[at].name)
    }

    fn log(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{}.log", self.members[at].name))
    }

    fn last_words(&self, at: usize) -> String {
        let log = fs::read_to_string(self.log(at)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
            self.members[at].keeper = None;
        }
        if let Some((mut child, line)) = self.sweeper.take() {
            drop(line);
            let _status = child.wait();
        }
    }
}

/// Where members listen: to clients, to each other, and to who asks what they measure.
fn addresses(members: usize, options: &Options) -> Vec<[SocketAddr; 3]> {
    if let Some(network) = options.network {
        let of = |at| [2379, 2380, 2381].map(|port| (network.address(at), port).into());
        return (0..members).map(of).collect();
    }
    let host = options.host.unwrap_or(Ipv4Addr::LOCALHOST);
    let bind = |_| TcpListener::bind((host, 0)).expect("a free port");
    let listeners: Vec<[TcpListener; 3]> = (0..members).map(|_| [(); 3].map(bind)).collect();
    // Once the listeners are gone the ports are free again; nobody else is likely to be given them
    // so soon.
    listeners
        .iter()
        .map(|three| three.each_ref().map(|one| one.local_addr().expect("an address")))
        .collect()
}

/// Starts a process that removes a directory once this one is gone, however it ends.
fn sweeper(dir: &Path) -> (Child, ChildStdin) {
    let script = "read -r _; for _ in 1 2 3 4 5; do rm -rf \"$0\" && break; sleep 0.2; done";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(dir)
        .stdin(Stdio::piped())
        .spawn()
        .expect("starting a shell");
    let line = child.stdin.take().expect("piped");
    (child, line)
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// A thread that starts processes: when it ends, and be it with this process, the kernel kills them.
struct Keeper(mpsc::Sender<Request>);

impl Keeper {
    /// Keeps a member, in a namespace of its own if there is a network.
    fn new(at: usize, network: Option<Network>) -> Self {
        let (requests, inbox) = mpsc::channel::<Request>();
        let (namespace, entered) = mpsc::channel();
        let (connected, connection) = mpsc::channel();
        thread::spawn(move || {
            if let Some(network) = network {
                namespace.send(network.enter_member()).expect("somebody waits");
                connection.recv().expect("somebody connects it");
                network.address_member(at);
            }
            for (mut command, answer) in inbox {
                die_with_this_thread(&mut command);
                // Nobody waits for the answer only if the caller is gone.
                let _ = answer.send(command.spawn());
            }
        });
        if let Some(network) = network {
            network.connect(at, &entered.recv().expect("a namespace"));
            connected.send(()).expect("it waits");
        }
        Self(requests)
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, result) = mpsc::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.0.send((command, answer)).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }
}

fn die_with_this_thread(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: runs between fork and exec; it makes two system calls and neither allocates nor
    // takes a lock.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // A parent that died before the call above sends no signal any more.
            if getppid().as_raw() as u32 == parent {
                Ok(())
            } else {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        });
    }
}
