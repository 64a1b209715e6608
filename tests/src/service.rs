//! Real programs on the hosts: dnsmasq, nginx with TLS, iperf3.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::directory::Directory;
use crate::error::{Attempt as _, Error, Result};
use crate::host::Host;
use crate::process::{self, Daemon};
use crate::router::{LAN_V4, Router};
use crate::wait;

/// Time for a service to come up; many times what it takes on a busy machine.
const START: Duration = Duration::from_secs(20);

/// dnsmasq on the router: names for servers, addresses for the LAN.
#[derive(Debug)]
pub struct Dns {
    daemon: Daemon,
}

impl Dns {
    /// Starts it; every name and what is below it leads to the test server.
    pub fn start(world: &Router, names: &[&str]) -> Result<Self> {
        process::need(&["dnsmasq"])?;
        let mut command = world.netns.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file=",
            "--log-facility=-",
            "--log-queries",
            "--no-resolv",
            "--no-hosts",
            "--no-ping",
            "--bind-interfaces",
            "--except-interface=lo",
            "--dhcp-range=192.168.77.100,192.168.77.150,1h",
        ]);
        command.arg(format!("--interface={}", world.lan));
        let leases = world.directory.path().join("dhcp.leases");
        command.arg(format!("--dhcp-leasefile={}", leases.display()));
        for name in names {
            command.arg(format!("--address=/{name}/{}", world.server.v4));
            command.arg(format!("--address=/{name}/{}", world.server.v6));
        }
        let mut daemon = Daemon::spawn("dnsmasq", command, world.directory.path())?;
        daemon.wait_until("dnsmasq had its socket", START, |_| {
            let sockets = world.netns.udp_sockets()?;
            Ok(sockets.contains(&(LAN_V4.into(), 53)).then_some(()))
        })?;
        Ok(Self { daemon })
    }

    /// Names that were asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let log = self.daemon.log();
        let questions = log.lines().filter_map(|line| line.split_once("query["));
        questions.filter_map(|(_, rest)| rest.split(' ').nth(1).map(str::to_owned)).collect()
    }
}

/// nginx on a host: HTTPS with HTTP/2 on port 443, HTTP on port 80.
#[derive(Debug)]
pub struct Web {
    daemon: Daemon,
    directory: Directory,
}

/// Pages of the web server, beside `/`, which says hello.
pub mod page {
    /// One mebibyte.
    pub const MIB: &str = "/files/1m";
    /// Sixteen mebibytes.
    pub const MIB16: &str = "/files/16m";
    /// Sixteen mebibytes at 1 MB/s.
    pub const SLOW: &str = "/slow/16m";
}

impl Web {
    /// Starts it with a self-signed certificate for `names`.
    pub fn start(host: &Host, names: &[&str]) -> Result<Self> {
        process::need(&["nginx", "openssl"])?;
        let directory = Directory::new("web")?;
        let path = directory.path().display().to_string();
        certificate(&directory, names)?;
        fs::create_dir(directory.path().join("www")).attempt(|| format!("make {path}/www"))?;
        for (name, mebibytes) in [("www/1m", 1), ("www/16m", 16)] {
            directory.write(name, vec![b'x'; mebibytes << 20])?;
        }
        let config = directory.write("nginx.conf", configuration(&path))?;
        let mut command = host.netns.command("nginx");
        command.arg("-c").arg(config).arg("-p").arg(directory.path());
        command.args(["-e", "stderr"]);
        let mut daemon = Daemon::spawn("nginx", command, directory.path())?;
        daemon.wait_until("nginx listened", START, |_| {
            let ports = host.netns.tcp_listeners()?;
            let both = [80, 443].iter().all(|port| ports.iter().any(|(_, at)| at == port));
            Ok(both.then_some(()))
        })?;
        Ok(Self { daemon, directory })
    }

    /// The certificate, which signs itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    /// Requests answered: one line each with client, server name and path.
    pub fn requests(&self) -> Result<Vec<String>> {
        let path = self.directory.path().join("access.log");
        let log = fs::read_to_string(&path).attempt(|| format!("read {}", path.display()))?;
        Ok(log.lines().map(str::to_owned).collect())
    }

    /// What it complained about.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

fn certificate(directory: &Directory, names: &[&str]) -> Result<()> {
    let alternatives = names.iter().fold(String::new(), |mut text, name| {
        let comma = if text.is_empty() { "" } else { "," };
        let _infallible = write!(text, "{comma}DNS:{name}");
        text
    });
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=Sluice test world"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.arg("-addext").arg(format!("subjectAltName={alternatives}"));
    command.arg("-keyout").arg(directory.path().join("key.pem"));
    command.arg("-out").arg(directory.path().join("certificate.pem"));
    process::run(&mut command).map(drop)
}

fn configuration(path: &str) -> String {
    // A single process: nothing is left when it is killed.
    format!(
        "daemon off;
         master_process off;
         pid {path}/nginx.pid;
         error_log stderr warn;
         events {{ worker_connections 512; }}
         http {{
            log_format seen '$remote_addr $ssl_server_name $request_uri $status';
            access_log {path}/access.log seen;
            client_body_temp_path {path}/body;
            proxy_temp_path {path}/proxy;
            fastcgi_temp_path {path}/fastcgi;
            uwsgi_temp_path {path}/uwsgi;
            scgi_temp_path {path}/scgi;
            keepalive_requests 100000;
            server {{
                listen 0.0.0.0:443 ssl http2;
                listen [::]:443 ssl http2 ipv6only=on;
                listen 0.0.0.0:80;
                listen [::]:80 ipv6only=on;
                listen 0.0.0.0:8080 http2;
                listen [::]:8080 http2 ipv6only=on;
                ssl_certificate {path}/certificate.pem;
                ssl_certificate_key {path}/key.pem;
                ssl_protocols TLSv1.2 TLSv1.3;
                default_type text/plain;
                location / {{ return 200 \"hello from $host\\n\"; }}
                location /files/ {{ alias {path}/www/; }}
                location /slow/ {{ alias {path}/www/; limit_rate 1m; }}
            }}
         }}\n"
    )
}

/// Both, on a router and its server.
pub fn named(world: &Router, names: &[&str]) -> Result<(Dns, Web)> {
    let dns = Dns::start(world, names)?;
    Ok((dns, Web::start(&world.server, names)?))
}

/// An answer that curl got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// curl's exit status; 0 is success.
    pub exit: i32,
    /// HTTP status, 0 without an answer.
    pub status: u32,
    /// Bytes of the body.
    pub bytes: u64,
    /// Local port of the connection.
    pub port: u16,
    /// curl's words when it failed.
    pub error: String,
}

impl Fetched {
    /// Whether the page came whole.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.exit == 0 && self.status == 200
    }
}

/// Which family a client uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A curl command on `host` for `url`, certificate checks off.
#[must_use]
pub fn curl(host: &Host, family: Family, url: &str, limit: Duration) -> Command {
    let mut command = host.command("curl");
    command.args(["--silent", "--show-error", "--insecure", "--output", "/dev/null"]);
    command.arg(if family == Family::V4 { "--ipv4" } else { "--ipv6" });
    command.arg("--max-time").arg(limit.as_secs().to_string());
    command.args(["--write-out", "%{http_code} %{size_download} %{local_port}", url]);
    command
}

/// Fetches `url` on `host` and reports how it went.
pub fn fetch(host: &Host, family: Family, url: &str, limit: Duration) -> Result<Fetched> {
    fetched(curl(host, family, url, limit))
}

/// Runs a curl command and reports how it went.
pub fn fetched(mut command: Command) -> Result<Fetched> {
    let output = process::output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut fields = text.split(' ');
    let mut number = || fields.next().and_then(|field| field.trim().parse::<u64>().ok());
    let (Some(status), Some(bytes), Some(port)) = (number(), number(), number()) else {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Unusable(format!("curl said \"{text}\" {errors}")));
    };
    Ok(Fetched {
        exit: output.status.code().unwrap_or(-1),
        status: status as u32,
        bytes,
        port: port as u16,
        error: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// An iperf3 server.
#[derive(Debug)]
pub struct Iperf {
    daemon: Daemon,
    is_alone: bool,
}

/// Port of the iperf3 server.
const IPERF_PORT: u16 = 5201;

impl Iperf {
    /// Starts it on the world's server. `alone`: both ends of its connections, and with them the
    /// router between, run on one processor before everybody else's work. Then the rate is what all of
    /// it costs together, and hardly depends on what else the machine does.
    pub fn start(world: &Router, alone: bool) -> Result<Self> {
        process::need(&["iperf3"])?;
        let mut command = iperf3(&world.server, alone);
        command.args(["--server", "--port", &IPERF_PORT.to_string()]);
        let mut daemon = Daemon::spawn("iperf3", command, world.directory.path())?;
        daemon.wait_until("iperf3 listened", START, |_| {
            let ports = world.server.netns.tcp_listeners()?;
            Ok(ports.iter().any(|(_, port)| *port == IPERF_PORT).then_some(()))
        })?;
        Ok(Self { daemon, is_alone: alone })
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// A client on its port `from` that goes on until its guard is dropped.
    pub fn stream(&self, world: &Router, download: bool, from: u16) -> Result<Daemon> {
        let mut command = iperf3(world.client(), self.is_alone);
        command.args(["--client", &world.server.v4.to_string()]);
        command.args(["--port", &IPERF_PORT.to_string(), "--cport", &from.to_string()]);
        command.args(["--time", "86400", "--interval", "0"]);
        if self.is_alone {
            command.args(["--affinity", "0,0"]);
        }
        if download {
            command.arg("--reverse");
        }
        Daemon::spawn("iperf3-client", command, world.directory.path())
    }

    /// Megabits per second that a client received in one run of `seconds`; `download` is from the
    /// server to the client.
    pub fn measure(&self, world: &Router, download: bool, seconds: u32) -> Result<f64> {
        let mut command = world.client().netns.command("iperf3");
        command.args(["--json", "--client", &world.server.v4.to_string()]);
        command.args(["--port", &IPERF_PORT.to_string(), "--time", &seconds.to_string()]);
        command.args(["--connect-timeout", "3000"]);
        if download {
            command.arg("--reverse");
        }
        // The server takes one client at a time and needs a moment after the last one.
        let report = wait::until("the iperf3 server was free", START, || {
            let output = process::output(&mut command)?;
            let report: serde_json::Value = serde_json::from_slice(&output.stdout)
                .map_err(|error| Error::Unusable(format!("iperf3: {error}")))?;
            let busy = report["error"].as_str().is_some_and(|error| error.contains("busy"));
            Ok((!busy).then_some(report))
        })?;
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
        rate.map(|bits| bits / 1e6).ok_or_else(|| {
            let error = report["error"].as_str().unwrap_or("no rate in its report");
            Error::Unusable(format!("iperf3: {error}"))
        })
    }
}

fn iperf3(host: &Host, alone: bool) -> Command {
    // On the only processor everybody else would hardly get a turn.
    let is_only = std::thread::available_parallelism().is_ok_and(|count| count.get() == 1);
    if !alone || is_only {
        return host.netns.command("iperf3");
    }
    let mut command = host.netns.command("nice");
    command.args(["-n", "-20", "iperf3"]);
    command
}
