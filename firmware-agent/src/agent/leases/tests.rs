//! Files that come, change and go.

use super::*;
use crate::config::DhcpServer::{Dnsmasq, Odhcpd};
use crate::directory::Dir;

/// Servers with the names in their files.
fn names(news: Vec<News>) -> Vec<(DhcpServer, Option<Vec<String>>)> {
    let name = |lease: Lease| lease.name.unwrap_or_default().into_string();
    let names = |leases: Vec<Lease>| leases.into_iter().map(name).collect();
    news.into_iter().map(|(server, leases)| (server, leases.map(names))).collect()
}

/// A file is read when it has changed, and once more when it had only just changed then.
#[test]
fn files_are_read_when_they_change() {
    let place = Dir::new("leases-change");
    let (dnsmasq, odhcpd) = (place.0.join("d"), place.0.join("o"));
    let config = place.write(
        "dhcp",
        &format!(
            "config dnsmasq\noption leasefile {}\nconfig odhcpd\noption leasefile {}\n",
            dnsmasq.display(),
            odhcpd.display()
        ),
    );
    let mut watch = Watch::default();
    // Everything is long ago for who looks from there.
    let later = clock::unix_s().map(|now| now + 100);
    assert_eq!(names(watch.look(&config, later)), []);
    let missing = [&dnsmasq, &odhcpd].map(|path| format!("no file {}", path.display()));
    assert_eq!(watch.places(), (false, missing.to_vec()));

    place.write("d", "0 02:00:5e:10:00:01 192.168.1.100 phone *\n");
    let phone = || (Dnsmasq, Some(vec!["phone".to_owned()]));
    assert_eq!(names(watch.look(&config, later)), [phone()]);
    assert_eq!(names(watch.look(&config, later)), []);
    place.write("o", "# br-lan 00 1 tablet -1 1 128 fd00::1/128\n");
    assert_eq!(names(watch.look(&config, later)), [(Odhcpd, Some(vec!["tablet".to_owned()]))]);
    assert_eq!(watch.places(), (true, vec![]));

    // Just changed: it may change once more without another stamp.
    place.write("d", "0 02:00:5e:10:00:01 192.168.1.100 phone *\n0 * fd00::2 new *\n");
    let both = || (Dnsmasq, Some(vec!["phone".to_owned(), "new".to_owned()]));
    let meta = std::fs::metadata(&dnsmasq).unwrap();
    let now = Some(meta.mtime());
    assert_eq!(names(watch.look(&config, now))[0], both());
    assert_eq!(names(watch.look(&config, now))[0], both());
    assert_eq!(names(watch.look(&config, later))[0], both(), "once more when it has settled");
    assert_eq!(names(watch.look(&config, later)), []);

    std::fs::remove_file(&dnsmasq).unwrap();
    assert_eq!(names(watch.look(&config, later)), [(Dnsmasq, None)]);
    // A directory is no file, and nothing waits for a pipe.
    std::fs::create_dir(&dnsmasq).unwrap();
    assert_eq!(names(watch.look(&config, later)), []);

    // Another configuration, in which one of the servers has no file.
    let other = place.write("e", "0 * fd00::3 other *\n");
    place.write("dhcp", &format!("config dnsmasq\noption leasefile {}\n", other.display()));
    let found = names(watch.look(&config, later));
    assert_eq!(found, [(Dnsmasq, Some(vec!["other".to_owned()])), (Odhcpd, None)]);
}
