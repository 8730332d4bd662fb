//! A directory as a store: conditions, attributes, what is hidden, what crashes leave.

use object_store::{Attribute, ObjectStoreExt, PutMode, UpdateVersion};

use super::*;

fn open(dir: &tempfile::TempDir) -> LocalStore {
    LocalStore::open(dir.path()).unwrap()
}

fn with_id(mode: PutMode, id: &str) -> PutOptions {
    PutOptions { attributes: [(Attribute::Metadata("id".into()), id.to_owned())].into_iter().collect(), ..mode.into() }
}

async fn id_of(store: &LocalStore, location: &Path) -> Option<String> {
    let result = store.get_opts(location, GetOptions::new().with_head(true)).await.unwrap();
    result.attributes.get(&Attribute::Metadata("id".into())).map(|value| value.to_string())
}

#[tokio::test]
async fn the_e_tag_is_the_same_wherever_it_is_shown_and_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let location = Path::from("a/b");
    let mut seen = std::collections::HashSet::new();
    for round in 0..500 {
        let e_tag = store.put(&location, format!("{:04}", round % 2).into()).await.unwrap().e_tag;
        assert!(seen.insert(e_tag.clone()), "{round}");
        assert_eq!(store.head(&location).await.unwrap().e_tag, e_tag);
        if round == 0 {
            let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
            assert_eq!((listed.len(), &listed[0].e_tag), (1, &e_tag));
        }
    }
}

#[tokio::test]
async fn attributes_are_replaced_copied_and_deleted_with_their_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (a, b) = (Path::from("a"), Path::from("b"));
    store.put_opts(&a, "1".into(), with_id(PutMode::Create, "one")).await.unwrap();
    store.copy(&a, &b).await.unwrap();
    let put = store.put_opts(&a, "2".into(), with_id(PutMode::Overwrite, "two")).await.unwrap();
    assert_eq!((id_of(&store, &a).await.as_deref(), id_of(&store, &b).await.as_deref()), (Some("two"), Some("one")));
    let sidecars = || std::fs::read_dir(dir.path().join(".bucketmq/attributes")).unwrap().count();
    assert_eq!(sidecars(), 2);
    store.copy(&b, &b).await.unwrap();
    assert_eq!(id_of(&store, &b).await.as_deref(), Some("one"));
    let update = PutMode::Update(UpdateVersion { e_tag: put.e_tag, version: None });
    store.put_opts(&a, "3".into(), update.into()).await.unwrap();
    assert_eq!(id_of(&store, &a).await, None);
    store.delete(&b).await.unwrap();
    store.delete(&b).await.unwrap();
    assert_eq!(sidecars(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join(".bucketmq/staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_no_object_is_neither_listed_nor_reached() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.put_opts(&Path::from("a/b"), "1".into(), with_id(PutMode::Create, "one")).await.unwrap();
    let own = Path::from(".bucketmq");
    for prefix in [None, Some(&own)] {
        let listed: Vec<_> = store.list(prefix).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert!(listed.iter().all(|name| name == "a/b"), "{listed:?}");
        let folder = store.list_with_delimiter(prefix).await.unwrap();
        assert!(folder.common_prefixes.iter().all(|name| name.as_ref() == "a") && folder.objects.is_empty(), "{folder:?}");
    }
    let inside = Path::from(".bucketmq/locks/00");
    assert!(store.get(&inside).await.is_err() && store.put(&inside, "x".into()).await.is_err() && store.delete(&inside).await.is_err());
}

#[tokio::test]
async fn a_part_that_comes_after_the_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let location = Path::from("a");
    let mut upload = store.put_multipart(&location).await.unwrap();
    let late = upload.put_part("late".into());
    assert!(upload.complete().await.is_err(), "a part is missing");
    assert!(late.await.is_err());
    assert!(store.head(&location).await.is_err());
    drop(upload);
    assert_eq!(std::fs::read_dir(dir.path().join(".bucketmq/staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_object_and_a_folder_of_the_same_name_are_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.put(&Path::from("a/b"), "1".into()).await.unwrap();
    for (location, mode) in [("a", PutMode::Overwrite), ("a/b/c", PutMode::Overwrite), ("a/b/c", PutMode::Create)] {
        let error = store.put_opts(&Path::from(location), "2".into(), mode.into()).await.unwrap_err().to_string();
        assert!(error.contains("same name"), "{location}: {error}");
    }
}
