//! A plan names the family of its servers. Skipped, loudly, where there is no MySQL (`make mysql` fetches it).

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::stack::{self, Wiring};
use tests::{Service, Stack, eventually, mysql};

const PLAN: &str = "9d6b9a3e-44b1-4f0c-9b8e-6d1f3c2a7e01";
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_plan_of_mysql_makes_a_pair_of_mysql_that_switches_over() -> Result<()> {
    if !stack::programs()?.with_file_name("mysql").join("bin/mysqld").is_file() {
        eprintln!("NOT TESTED: a plan with MySQL, which was not fetched");
        return Ok(());
    }
    let plan = json!({
        "id": PLAN, "name": "mysql-pair", "description": "Two servers of MySQL",
        "deployment": {"topology": "leader-follower", "server": "mysql", "azs": ["z1", "z2"], "vm_type": "small",
                       "disk_type": "5GB"},
    });
    let stack = Stack::start_offering(Wiring::Direct, &[plan]).await?;

    let service = Service::provision(&stack, PLAN).await?;
    let credentials = service.bind().await?.credentials;
    let pair = service.pair().await?;
    let mut writer = credentials.connect().await?;
    let version = mysql::text(&mut writer, "SELECT VERSION()").await?;
    mysql::execute(&mut writer, "CREATE TABLE fruit (name VARCHAR(20)); INSERT INTO fruit VALUES ('quince')").await?;
    service.errand("switchover", &pair.leader).await?.succeeded()?;

    ensure!(!version.contains("MariaDB"), "the server is {version}");
    assert_eq!(service.pair().await?.leader.id, pair.follower.id);
    let fruit = eventually("the new leader answers at the stable address", LIMIT, async || {
        let Ok(mut reader) = credentials.connect().await else { return Ok(None) };
        Ok(mysql::text(&mut reader, "SELECT name FROM fruit").await.ok())
    });
    assert_eq!(fruit.await?, "quince");
    service.delete().await?;
    stack.shutdown()
}
