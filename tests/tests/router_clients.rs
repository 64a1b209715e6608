//! Programs that people use, through a router: what `flows` says of them, and that their fingerprints
//! are those that tshark finds in a recording of the same packets.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sluice_tests::agent::Setup;
use sluice_tests::capture::{Capture, Hello, hellos};
use sluice_tests::host::Host;
use sluice_tests::process::{self, Daemon};
use sluice_tests::report::Flow;
use sluice_tests::service::{Family, curl};
use sluice_tests::site::Site;
use sluice_tests::skip::without_root;
use sluice_tests::traffic::{TcpService, UdpService};

/// Time for one client; a browser takes some to start.
const LIMIT: Duration = Duration::from_secs(60);
/// Every name below it leads to the server.
const DOMAIN: &str = "clients.test";
/// Port of a server that speaks old versions.
const OLD_PORT: u16 = 4433;

/// What a client says: server name, protocols, the start of its JA4.
type Expected = (&'static str, &'static [&'static str], &'static str);

/// A server of every version of TLS that this machine's library still speaks.
fn old_server(site: &Site) -> Daemon {
    let certificate = site.web.certificate();
    let mut command = site.world.server.netns.command("openssl");
    command.args(["s_server", "-quiet", "-accept", &OLD_PORT.to_string()]);
    command.args(["-cipher", "ALL:@SECLEVEL=0", "-min_protocol", "TLSv1"]);
    command.arg("-cert").arg(&certificate).arg("-key").arg(certificate.with_file_name("key.pem"));
    let server = Daemon::spawn("s_server", command, site.world.directory.path()).unwrap();
    site.world.server.netns.wait_for_listener(OLD_PORT).unwrap();
    server
}

fn openssl(site: &Site, name: &str, version: &str) -> Command {
    let mut command = site.world.client().command("openssl");
    command.args(["s_client", version, "-servername", name, "-cipher", "ALL:@SECLEVEL=0"]);
    command.arg("-connect").arg(format!("{}:{OLD_PORT}", site.world.server.v4));
    command
}

fn python(host: &Host, name: &str, version: &str) -> Command {
    const SCRIPT: &str = "
import socket, ssl, sys
name, version = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
context.set_alpn_protocols(['http/1.1'])
with socket.create_connection((name, 443), 20) as plain:
    with context.wrap_socket(plain, server_hostname=name) as stream:
        stream.sendall(b'GET / HTTP/1.1\\r\\nHost: %b\\r\\nConnection: close\\r\\n\\r\\n' % name.encode())
        sys.exit(b'hello from' not in b''.join(iter(lambda: stream.recv(4096), b'')))
";
    let mut command = host.command("/usr/bin/python3");
    command.args(["-c", SCRIPT, name, version]);
    command
}

fn fetching(host: &Host, name: &str, version: &str) -> Command {
    let mut command = curl(host, Family::V6, &format!("https://{name}/"), LIMIT);
    command.args(["--fail", version]);
    command
}

/// The hello of a flow, which says what tshark says of it.
fn agreed<'a>(flow: &Flow, hellos: &'a [Hello], (name, alpn, ja4): Expected) -> &'a Hello {
    let is_it = |hello: &&Hello| hello.port == flow.sport && hello.name.as_deref() == Some(name);
    let Some(hello) = hellos.iter().find(is_it) else { unreachable!("{name} in {hellos:?}") };
    assert!(hello.ja4.starts_with(ja4), "{name}: {hello:?}");
    assert_eq!(hello.alpn, owned(alpn), "{name}");
    assert_eq!(flow.alpn, hello.alpn, "{name}");
    assert_eq!(flow.ja4.as_deref(), Some(&*hello.ja4), "{name}");
    assert_eq!(flow.ja3.as_deref(), Some(&*hello.ja3), "{name}");
    assert_eq!(flow.verdict, "trusted", "{name}");
    hello
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// R33, R34, R35: command line clients of TLS 1.0 to 1.3, with and without ALPN.
#[test]
fn clients_of_every_version_have_the_fingerprints_that_tshark_computes() {
    if without_root() {
        return;
    }
    process::need(&["python3", "sha256sum"]).unwrap();
    let site = Site::new(&[DOMAIN], Setup::default()).unwrap();
    let _old = old_server(&site);
    let client = site.world.client();
    let directory = site.world.directory.path();
    let capture = Capture::start(client, "tcp", directory, "clients").unwrap();
    #[rustfmt::skip]
    let cases: [(Command, Expected); 8] = [
        (fetching(client, "curl-h1.clients.test", "--http1.1"), ("curl-h1.clients.test", &["http/1.1"], "t13d")),
        (fetching(client, "curl-h2.clients.test", "--http2"), ("curl-h2.clients.test", &["h2", "http/1.1"], "t13d")),
        (python(client, "python-12.clients.test", "TLSv1_2"), ("python-12.clients.test", &["http/1.1"], "t12d")),
        (python(client, "python-13.clients.test", "TLSv1_3"), ("python-13.clients.test", &["http/1.1"], "t13d")),
        (openssl(&site, "tls-10.clients.test", "-tls1"), ("tls-10.clients.test", &[], "t10d")),
        (openssl(&site, "tls-11.clients.test", "-tls1_1"), ("tls-11.clients.test", &[], "t11d")),
        (openssl(&site, "tls-12.clients.test", "-tls1_2"), ("tls-12.clients.test", &[], "t12d")),
        (openssl(&site, "tls-13.clients.test", "-tls1_3"), ("tls-13.clients.test", &[], "t13d")),
    ];
    let mut flows = Vec::new();
    for (mut command, expected) in cases {
        process::run(&mut command).unwrap();
        let flow = site.agent.wait_for_flow(expected.0, |flow| flow.is_for(expected.0)).unwrap();
        assert_eq!(flow.protocol.as_deref(), Some("tls"), "{flow:?}");
        flows.push((flow, expected));
    }
    let hellos = hellos(&capture.finish().unwrap()).unwrap();
    assert_eq!(hellos.len(), flows.len(), "{hellos:?}");
    for (flow, expected) in flows {
        agreed(&flow, &hellos, expected);
    }
}

/// Starts Chromium for one page; it goes on until it is stopped.
fn chromium(site: &Site, directory: &Path, name: &str, more: &[&str]) -> Daemon {
    process::need(&["chromium"]).unwrap();
    let profile = directory.join(name);
    let mut command = site.world.client().command("chromium");
    command.env("HOME", &profile);
    command.arg(format!("--user-data-dir={}", profile.display()));
    // The sandbox is not for root.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
    command.args(["--disable-component-update", "--ignore-certificate-errors"]);
    command.args(more).args(["--dump-dom", &format!("https://{name}/")]);
    Daemon::spawn(name, command, directory).unwrap()
}

/// R33, R35, R36: a browser, over TLS and in QUIC.
#[test]
fn a_browser_has_the_fingerprints_that_tshark_computes() {
    if without_root() {
        return;
    }
    let site = Site::new(&[DOMAIN], Setup::default()).unwrap();
    let client = site.world.client();
    let directory = site.world.directory.path();
    let capture = Capture::start(client, "port 443", directory, "browser").unwrap();

    let name = "browser.clients.test";
    let mut browser = chromium(&site, directory, name, &[]);
    let flow = site.agent.wait_for_flow(name, |flow| flow.is_for(name)).unwrap();
    browser.wait_for_text("hello from browser.clients.test", LIMIT).unwrap();
    browser.stop().unwrap();
    let over_tls = (flow, (name, &["h2", "http/1.1"] as &[_], "t13d"));

    let name = "quic.clients.test";
    // It answers with what no server says; the client's hello is all that is asked for.
    let _sink = UdpService::echo(&site.world.server, site.world.server.v4.into(), 443).unwrap();
    let forced = format!("--origin-to-force-quic-on={name}:443");
    let mapped = format!("--host-resolver-rules=MAP {name} {}", site.world.server.v4);
    let mut browser = chromium(&site, directory, name, &["--enable-quic", &forced, &mapped]);
    let is_datagrams = |flow: &Flow| flow.is_for(name) && flow.transport == "udp";
    let flow = site.agent.wait_for_flow(name, is_datagrams).unwrap();
    browser.stop().unwrap();
    assert_eq!(flow.protocol.as_deref(), Some("quic"), "{flow:?}");
    let in_quic = (flow, (name, &["h3"] as &[_], "q13d"));

    let hellos = hellos(&capture.finish().unwrap()).unwrap();
    for (flow, expected) in [over_tls, in_quic] {
        let hello = agreed(&flow, &hellos, expected);
        // Reserved values, which no fingerprint counts: over TLS only.
        let is_reserved = |kind: &u16| kind & 0x0f0f == 0x0a0a;
        let has_reserved = hello.extensions.iter().any(is_reserved);
        assert_eq!(has_reserved, flow.transport == "tcp", "{hello:?}");
    }
}

/// R39: SSH by its first line, HTTP by its host.
#[test]
fn ssh_and_plain_http_are_known_by_what_they_say() {
    if without_root() {
        return;
    }
    process::need(&["ssh"]).unwrap();
    let site = Site::new(&[DOMAIN], Setup::default().main("window_packets", 4)).unwrap();
    let (client, server) = (site.world.client(), &site.world.server);
    // Its own words are a server's too, until the exchange of keys.
    let _echo = TcpService::echo(server, server.v4.into(), 22).unwrap();
    let mut ssh = client.command("ssh");
    ssh.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-F", "none"]);
    ssh.arg(format!("root@{}", server.v4));
    let refused = process::output(&mut ssh).unwrap();
    assert!(!refused.status.success());
    let flow = site.agent.wait_for_flow("for SSH", |flow| flow.dport == 22).unwrap();
    assert_eq!(flow.protocol.as_deref(), Some("ssh"), "{flow:?}, {refused:?}");

    let mut wget = client.command("busybox");
    wget.args(["wget", "-q", "-O", "-", "http://plain.clients.test/"]);
    assert_eq!(process::run(&mut wget).unwrap(), "hello from plain.clients.test\n");
    let flow = site.agent.wait_for_flow("for HTTP", |flow| flow.dport == 80).unwrap();
    let said = (flow.host.as_deref(), flow.protocol.as_deref());
    assert_eq!(said, (Some("plain.clients.test"), Some("http")), "{flow:?}");
    assert_eq!((flow.verdict.as_str(), flow.sni), ("trusted", None));
}
