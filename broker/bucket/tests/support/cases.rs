//! object_store's own integration cases, each on an empty store, all of them run even when one fails.

use std::future::Future;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt;
use object_store::ObjectStore;
use object_store::integration::*;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;

type Case<S> = (&'static str, for<'a> fn(&'a S) -> Pin<Box<dyn Future<Output = ()> + 'a>>);

/// Cases of the trait.
pub fn all<S: ObjectStore>() -> Vec<Case<S>> {
    vec![
        ("put_get_delete_list", |store| Box::pin(put_get_delete_list(store))),
        ("list_uses_directories_correctly", |store| Box::pin(list_uses_directories_correctly(store))),
        ("list_with_delimiter", |store| Box::pin(list_with_delimiter(store))),
        ("list_with_offset_exclusivity", |store| Box::pin(list_with_offset_exclusivity(store))),
        ("rename_and_copy", |store| Box::pin(rename_and_copy(store))),
        ("copy_if_not_exists", |store| Box::pin(copy_if_not_exists(store))),
        ("copy_rename_nonexistent_object", |store| Box::pin(copy_rename_nonexistent_object(store))),
        ("get_nonexistent_object", |store| {
            Box::pin(async move {
                let error = get_nonexistent_object(store, None).await.expect_err("it does not exist");
                assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
            })
        }),
        ("stream_get", |store| Box::pin(stream_get(store))),
        ("put_opts", |store| Box::pin(put_opts(store, true))),
        ("get_opts", |store| Box::pin(get_opts(store))),
        ("put_get_attributes", |store| Box::pin(put_get_attributes(store))),
        ("multipart_out_of_order", |store| Box::pin(multipart_out_of_order(store))),
    ]
}

/// Of two uploads of one object, the one completed last wins, as on S3.
pub fn last_upload_wins<S: ObjectStore>() -> Vec<Case<S>> {
    vec![("multipart_race_condition", |store| Box::pin(multipart_race_condition(store, true)))]
}

/// Of two uploads of one object, the one completed first wins, as on Azure, where completing one ends the others.
pub fn first_upload_wins<S: ObjectStore>() -> Vec<Case<S>> {
    vec![("multipart_race_condition", |store| Box::pin(multipart_race_condition(store, false)))]
}

/// Cases of the traits below it that S3 has.
pub fn of_parts_and_pages<S: ObjectStore + MultipartStore + PaginatedListStore>() -> Vec<Case<S>> {
    vec![
        ("multipart", |store| Box::pin(multipart(store, store))),
        ("multipart_put_part_out_of_order", |store| Box::pin(multipart_put_part_out_of_order(store, store))),
        ("multipart_with_opts", |store| Box::pin(multipart_with_opts(store, store))),
        ("list_paginated", |store| Box::pin(list_paginated(store, store))),
    ]
}

/// Runs every case on a store of its own, and says how many passed. The names of those that failed.
pub async fn run<S: ObjectStore, F: Future<Output = S>>(cases: Vec<Case<S>>, empty: impl Fn(usize) -> F) -> Vec<&'static str> {
    let (count, mut failed) = (cases.len(), Vec::new());
    for (number, (name, case)) in cases.into_iter().enumerate() {
        let store = empty(number).await;
        if AssertUnwindSafe(case(&store)).catch_unwind().await.is_err() {
            failed.push(name);
        }
    }
    writeln!(std::io::stdout(), "{} of {count} cases passed", count - failed.len()).expect("somebody listens");
    failed
}
