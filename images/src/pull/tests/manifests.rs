use super::*;

#[tokio::test]
async fn manifests_of_every_kind_are_kept_byte_for_byte() {
    let here = Here::open().await;
    let text = "{ \"schemaVersion\" : 2,\n \"artifactType\": \"x\" }";
    let digest = here.elsewhere.manifest_as("v1", "application/vnd.example.thing.v1+json", text);
    let held = here.tagged("v1").await.unwrap();
    assert_eq!((held.digest, &held.bytes[..]), (digest, text.as_bytes()));
    assert_eq!(held.media_type, "application/vnd.example.thing.v1+json");
    here.elsewhere.asked();
    let again = here.puller.manifest(&registry(), &repository(), &digest).await.unwrap();
    assert_eq!(again, held);
    assert!(here.elsewhere.asked().is_empty());
    // Of another repository nobody said that it has it.
    let other = "c/d".parse().unwrap();
    let error = here.puller.manifest(&registry(), &other, &digest).await.unwrap_err();
    assert!(error.is_absence(), "{error}");
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says_and_no_longer_than_one_is() {
    let here = Here::open().await;
    let digest = here.elsewhere.manifest("v1", "{}");
    here.elsewhere.fault(Fault::Lie);
    let error = here.puller.manifest(&registry(), &repository(), &digest).await.unwrap_err();
    assert!(error.to_string().contains("other bytes than its name says"), "{error}");
    here.elsewhere.fault(Fault::Endless);
    let error = here.tagged("v1").await.unwrap_err();
    assert!(error.to_string().contains("longer than 4194304 bytes"), "{error}");
    assert_eq!(here.tagged("v1").await.unwrap().digest, digest);
}

#[tokio::test]
async fn a_tag_is_looked_up_as_often_as_the_site_wants() {
    let hour = Duration::from_secs(3600);
    for (revalidate, requests, sees) in [
        (Revalidate::Never, 0, "{}"),
        (Revalidate::After(hour), 0, "{}"),
        (Revalidate::After(Duration::ZERO), 2, "{\"new\":1}"),
        (Revalidate::Always, 2, "{\"new\":1}"),
    ] {
        let here = Here::with(Door::Open, None, revalidate).await;
        here.elsewhere.manifest("v1", "{}");
        here.tagged("v1").await.unwrap();
        assert_eq!(here.elsewhere.asked().len(), 1);
        here.elsewhere.manifest("v1", "{\"new\":1}");
        assert_eq!(&here.tagged("v1").await.unwrap().bytes[..], sees.as_bytes(), "{revalidate:?}");
        assert_eq!(here.elsewhere.asked().len(), requests, "{revalidate:?}");
    }
}

#[tokio::test]
async fn a_tag_that_is_what_it_was_costs_one_head() {
    let here = Here::open().await;
    here.elsewhere.manifest("v1", "{}");
    here.tagged("v1").await.unwrap();
    here.elsewhere.asked();
    here.tagged("v1").await.unwrap();
    let methods: Vec<Method> = here.elsewhere.asked().into_iter().map(|(method, ..)| method).collect();
    assert_eq!(methods, [Method::HEAD]);
}

#[tokio::test]
async fn what_was_seen_once_is_served_while_its_registry_is_away_or_has_it_no_more() {
    let here = Here::open().await;
    let digest = here.elsewhere.manifest("v1", "{}");
    here.tagged("v1").await.unwrap();
    here.elsewhere.forget("a/b/manifests/v1");
    assert_eq!(here.tagged("v1").await.unwrap().digest, digest);
    assert!(here.tagged("v2").await.unwrap_err().is_absence());
    for _ in 0..ATTEMPTS {
        here.elsewhere.fault(Fault::Status(500, None));
    }
    here.elsewhere.manifest("v1", "{\"new\":1}");
    assert_eq!(here.tagged("v1").await.unwrap().digest, digest);
    assert_ne!(here.tagged("v1").await.unwrap().digest, digest);
}

/// Of a small request; see the client.
const ATTEMPTS: usize = 3;

#[tokio::test]
async fn a_tag_that_was_given_here_is_nobody_elses() {
    let here = Here::open().await;
    here.elsewhere.manifest("v1", "{\"theirs\":1}");
    let text = format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_INDEX}\",\"manifests\":[]}}");
    let store = here.puller.store();
    let ours = store.put(text.as_bytes()).unwrap();
    let reference: Reference = "registry.example/a/b:v1".parse().unwrap();
    store.set_ref(&reference, &Descriptor::new(OCI_INDEX, ours, text.len() as u64)).unwrap();
    assert_eq!(here.tagged("v1").await.unwrap().digest, ours);
    assert!(here.elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_hundred_who_ask_for_a_tag_are_one() {
    let here = Here::open().await;
    let digest = here.elsewhere.manifest("v1", "{}");
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let puller = here.puller.clone();
        let reference = "registry.example/a/b:v1".parse().unwrap();
        all.spawn(async move { puller.tagged(&reference).await.unwrap().digest });
    }
    while let Some(one) = all.join_next().await {
        assert_eq!(one.unwrap(), digest);
    }
    // Whoever asked before somebody else's answer came need not ask again.
    assert!(here.elsewhere.asked().len() <= 3, "far fewer than a hundred");
}

#[tokio::test]
async fn a_registry_gets_to_see_what_it_wants_to() {
    let secret = Some(("user", "secret"));
    for (door, credentials, ok) in [
        (Door::Basic, secret, true),
        (Door::Basic, Some(("user", "wrong")), false),
        (Door::Basic, None, false),
        (Door::Token, None, true),
        (Door::TokenOnce, secret, true),
    ] {
        let here = Here::with(door, credentials, Revalidate::Always).await;
        let digest = here.elsewhere.manifest("v1", "{}");
        let blob = here.elsewhere.blob(bytes(10));
        let held = here.tagged("v1").await;
        match ok {
            true => assert_eq!(held.unwrap().digest, digest),
            false => {
                let error = held.unwrap_err();
                assert!(matches!(error.upstream(), Some(UpstreamError::Denied { .. })), "{error}");
                assert!(!format!("{error:?}").contains("wrong"));
                continue;
            }
        }
        assert_eq!(here.blob(&blob).await.unwrap(), bytes(10));
        let tokens = match door {
            Door::Token => 1,
            Door::TokenOnce => 2,
            Door::Basic | Door::Open => 0,
        };
        assert_eq!(here.elsewhere.tokens(), tokens);
    }
}

#[tokio::test]
async fn a_registry_that_wants_to_be_left_alone_is() {
    let here = Here::open().await;
    here.elsewhere.manifest("v1", "{}");
    here.elsewhere.fault(Fault::Status(429, Some(3600)));
    let error = here.tagged("v1").await.unwrap_err();
    let wait = error.upstream().and_then(UpstreamError::wait);
    assert_eq!(wait, Some(Duration::from_secs(3600)), "{error}");
    assert_eq!(here.elsewhere.asked().len(), 1);
}
