//! Several brokers on one state database, as several stores; where the database is a file, it is one store used at once.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::*;

/// As many brokers as the place bears.
async fn stores(place: &Place) -> Vec<Store> {
    match place {
        Place::Server(_) => {
            join_all((0..3).map(|_| Store::open(place))).await.into_iter().map(Result::unwrap).collect()
        }
        Place::File(_) => vec![Store::open(place).await.unwrap(); 3],
    }
}

/// Look whether the wish is there, and record it where it is not: what a request does.
async fn wish(store: &Store, id: &InstanceId) -> bool {
    let mut tx = store.begin().await.expect("one's turn comes in time");
    if instances::find(&mut tx, id).await.unwrap().is_some() {
        return false;
    }
    instances::insert(&mut tx, id, &attributes(), None, "{}", NOW).await.unwrap();
    let new = NewOperation::new(Kind::Create, id, "r", LIMIT);
    operations::insert(&mut tx, new, NOW).await.unwrap();
    tx.commit().await.unwrap();
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_equal_wishes_at_once_one_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let stores = stores(&place(directory.path()).await).await;

    let wishes = (0..50).map(|number| {
        let store = stores[number % stores.len()].clone();
        tokio::spawn(async move { wish(&store, &id("i")).await })
    });

    let recorded = join_all(wishes).await.into_iter().filter(|recorded| *recorded.as_ref().unwrap()).count();
    assert_eq!(recorded, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_several_brokers_claim_every_instance_once() {
    let directory = tempfile::tempdir().unwrap();
    let stores = stores(&place(directory.path()).await).await;
    for number in 0..20 {
        assert!(wish(&stores[0], &id(&format!("i{number}"))).await);
    }

    let workers = (0..6).map(|number| {
        let store = stores[number % stores.len()].clone();
        tokio::spawn(async move {
            let mut claimed = vec![];
            loop {
                let mut tx = store.begin().await.unwrap();
                let lease = Lease { owner: &format!("broker {number}"), until: LATER };
                let Some(instance) = instances::claim(&mut tx, lease, NOW).await.unwrap() else { return claimed };
                tx.commit().await.unwrap();
                claimed.push(instance.to_string());
            }
        })
    });

    let claimed: Vec<String> = join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!((claimed.len(), claimed.iter().collect::<BTreeSet<_>>().len()), (20, 20));
}

#[tokio::test]
async fn a_broker_that_starts_frees_its_own_claims_only() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    let key = |binding: &str| Key { instance: id("i"), binding: BindingId::parse(binding).unwrap() };
    let attributes = BindingAttributes { service_id: "s".into(), plan_id: "p".into(), rest: serde_json::Value::Null };
    let mut db = database.connection().await;
    for owner in ["a", "b"] {
        let lease = Lease { owner, until: LATER };
        bindings::insert(&mut db, &key(owner), &attributes, "sealed", lease, NOW).await.unwrap();
    }

    bindings::release_all(&mut db, "a").await.unwrap();

    let mut is_claimed = vec![];
    for owner in ["a", "b"] {
        is_claimed.push(bindings::find(&mut db, &key(owner), NOW).await.unwrap().unwrap().known.is_claimed);
    }
    assert_eq!(is_claimed, [false, true]);
}

#[tokio::test]
async fn seals_are_walked_through_in_pages_and_replaced_where_nobody_else_did() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    let attributes = BindingAttributes { service_id: "s".into(), plan_id: "p".into(), rest: serde_json::Value::Null };
    let mut db = database.connection().await;
    for binding in ["b1", "B2", "b-3"] {
        let key = Key { instance: id("i"), binding: BindingId::parse(binding).unwrap() };
        bindings::insert(&mut db, &key, &attributes, binding, lease(LATER), NOW).await.unwrap();
    }

    let mut seen = vec![];
    while let [(key, sealed), ..] = &bindings::sealed_after(&mut db, seen.last(), 1).await.unwrap()[..] {
        assert_eq!(*sealed, key.binding.to_string());
        assert!(bindings::replace_sealed(&mut db, key, sealed, "new").await.unwrap());
        assert!(!bindings::replace_sealed(&mut db, key, sealed, "newer").await.unwrap());
        seen.push(key.clone());
    }

    assert_eq!(seen.len(), 3);
}
