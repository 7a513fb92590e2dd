//! PostgreSQL as tests start it.

use anyhow::Result;
use sentinel_test_services::{Postgres, Services};

#[test]
fn a_killed_server_begins_again_with_what_was_committed() -> Result<()> {
    let mut server = Postgres::start(&Services::here()?, &["max_connections=20"])?;
    let url = server.database()?;
    assert_ne!(url, server.database()?);
    server.query("test0", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")?;
    assert_eq!(server.query("postgres", "SHOW max_connections")?, "20");
    assert_eq!(server.query("postgres", "SHOW fsync")?, "on");
    server.kill();
    assert!(server.query("test0", "SELECT n FROM t").is_err());
    server.begin()?;
    assert_eq!(server.query("test0", "SELECT n FROM t")?, "7");
    server.end()?;
    server.begin()?;
    assert_eq!(server.query("test0", "SELECT n FROM t")?, "7");
    Ok(())
}

#[test]
fn a_standby_has_what_was_committed_and_takes_the_place_of_the_one_it_followed() -> Result<()> {
    let services = Services::here()?;
    let mut server = Postgres::start(&services, &[])?;
    server.database()?;
    server.query("test0", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")?;
    let standby = server.standby(&services, &["commit_delay=1000"])?;
    assert_eq!(standby.query("test0", "SELECT n FROM t")?, "7");
    assert!(standby.query("test0", "INSERT INTO t VALUES (8)").is_err());
    server.kill();
    standby.promote()?;
    standby.query("test0", "INSERT INTO t VALUES (8)")?;
    assert_eq!(standby.query("test0", "SELECT sum(n) FROM t")?, "15");
    assert_eq!(standby.query("test0", "SHOW commit_delay")?, "1000");
    Ok(())
}
