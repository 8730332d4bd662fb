//! What follows from answers that real servers seldom give: lost ones, 409, 503, wrong ranges.

mod support;

use std::time::{Duration, Instant};

use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutResult, UpdateVersion};
use support::script::{DATE, Script, Step};

const CONFLICT: &str = "<Error><Code>ConditionalRequestConflict</Code><Message>Another is at it.</Message></Error>";
const PRECONDITION: &str = "<Error><Code>PreconditionFailed</Code></Error>";
const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
const NO_SUCH_KEY: &str = "<Error><Code>NoSuchKey</Code></Error>";

fn conflict() -> Step {
    Step::error(409, CONFLICT)
}

fn precondition() -> Step {
    Step::error(412, PRECONDITION)
}

fn absent() -> Step {
    Step::Answer(404, vec![], "")
}

/// The methods that arrived, and what came of a put with this condition.
async fn put(mode: PutMode, steps: Vec<Step>) -> (String, object_store::Result<PutResult>) {
    let script = Script::of(steps);
    let result = script.store().await.put_opts(&Path::from("key"), "value".into(), mode.into()).await;
    let methods: Vec<String> = script.requests().into_iter().map(|request| request.method).collect();
    (methods.join(" "), result)
}

fn update() -> PutMode {
    PutMode::Update(UpdateVersion { e_tag: Some("\"old\"".to_owned()), version: None })
}

#[tokio::test]
async fn an_answer_is_taken_at_its_word_when_nothing_was_lost() {
    let (methods, result) = put(PutMode::Create, vec![precondition()]).await;
    assert!(matches!(result, Err(Error::AlreadyExists { .. })), "{result:?}");
    assert_eq!(methods, "PUT");
    let (methods, result) = put(update(), vec![precondition()]).await;
    assert!(matches!(result, Err(Error::Precondition { .. })), "{result:?}");
    assert_eq!(methods, "PUT");
    let (_, result) = put(update(), vec![Step::error(404, NO_SUCH_KEY)]).await;
    assert!(matches!(result, Err(Error::Precondition { .. })), "{result:?}");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_known_again() {
    for mode in [PutMode::Create, update()] {
        let (methods, result) = put(mode, vec![Step::Break, precondition(), Step::OurObject]).await;
        assert_eq!((methods.as_str(), result.unwrap().e_tag.as_deref()), ("PUT PUT HEAD", Some("\"ours\"")));
    }
    let (_, result) = put(PutMode::Create, vec![Step::error(500, ""), precondition(), Step::OurObject]).await;
    assert_eq!(result.unwrap().e_tag.as_deref(), Some("\"ours\""));
}

#[tokio::test]
async fn a_write_that_another_won_meanwhile_is_not_ours() {
    let (_, result) = put(PutMode::Create, vec![Step::Break, precondition(), Step::object_of_another("\"x\"")]).await;
    assert!(matches!(result, Err(Error::AlreadyExists { .. })), "{result:?}");
    let (_, result) = put(update(), vec![Step::Break, precondition(), Step::object_of_another("\"x\"")]).await;
    assert!(matches!(result, Err(Error::Precondition { .. })), "{result:?}");
}

#[tokio::test]
async fn nobody_is_told_that_another_was_faster_when_the_object_cannot_be_read() {
    let (_, result) = put(PutMode::Create, vec![Step::Break, precondition(), Step::error(403, ""), Step::error(403, "")]).await;
    assert!(matches!(result, Err(Error::PermissionDenied { .. })), "{result:?}");
}

#[tokio::test]
async fn after_409_the_object_decides() {
    let (methods, result) = put(PutMode::Create, vec![conflict(), absent(), Step::stored()]).await;
    assert_eq!((methods.as_str(), result.unwrap().e_tag.as_deref()), ("PUT HEAD PUT", Some("\"new\"")));
    let (_, result) = put(PutMode::Create, vec![conflict(), Step::object_of_another("\"x\"")]).await;
    assert!(matches!(result, Err(Error::AlreadyExists { .. })), "{result:?}");
    let (_, result) = put(PutMode::Create, vec![conflict(), Step::OurObject]).await;
    assert_eq!(result.unwrap().e_tag.as_deref(), Some("\"ours\""));
    let (methods, result) = put(update(), vec![conflict(), Step::object_of_another("\"old\""), Step::stored()]).await;
    assert_eq!((methods.as_str(), result.is_ok()), ("PUT HEAD PUT", true));
    let (_, result) = put(update(), vec![conflict(), Step::object_of_another("\"x\"")]).await;
    assert!(matches!(result, Err(Error::Precondition { .. })), "{result:?}");
    let (_, result) = put(update(), vec![conflict(), absent()]).await;
    assert!(matches!(result, Err(Error::Precondition { .. })), "{result:?}");
}

#[tokio::test]
async fn endless_409_ends_in_an_error_that_says_nothing_about_the_condition() {
    let steps = std::iter::repeat_n([conflict(), absent()], 4).flatten().collect();
    let (methods, result) = put(PutMode::Create, steps).await;
    assert!(matches!(result, Err(Error::Generic { .. })), "{result:?}");
    assert_eq!(methods, "PUT HEAD PUT HEAD PUT HEAD PUT HEAD");
}

#[tokio::test]
async fn slow_down_is_retried_a_bounded_number_of_times() {
    for mode in [PutMode::Overwrite, PutMode::Create] {
        let (methods, result) = put(mode.clone(), vec![Step::error(503, SLOW_DOWN); 4]).await;
        assert!(matches!(&result, Err(Error::Generic { source, .. }) if source.to_string().contains("SlowDown")), "{result:?}");
        assert_eq!(methods, "PUT PUT PUT PUT");
        let (_, result) = put(mode, vec![Step::error(503, SLOW_DOWN), Step::stored()]).await;
        assert!(result.is_ok(), "{result:?}");
    }
}

#[tokio::test]
async fn silence_ends_within_the_configured_time() {
    let script = Script::of(vec![Step::Silence; 8]);
    let store = script
        .store_with(|config| {
            config.attempt_timeout = Duration::from_millis(200);
            config.connect_timeout = Duration::from_millis(200);
            config.max_attempts = 2;
        })
        .await;
    for mode in [PutMode::Overwrite, PutMode::Create] {
        let started = Instant::now();
        let error = store.put_opts(&Path::from("key"), "value".into(), mode.into()).await.unwrap_err();
        assert!(matches!(error, Error::Generic { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_finished_upload_whose_answer_was_lost_is_known_again() {
    const NO_SUCH_UPLOAD: &str = "<Error><Code>NoSuchUpload</Code></Error>";
    let begun = Step::Answer(200, vec![], "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>");
    for (last, ok) in [(Step::OurObject, true), (Step::object_of_another("\"x\""), false), (absent(), false)] {
        let steps = vec![begun.clone(), Step::stored(), Step::Break, Step::error(404, NO_SUCH_UPLOAD), last];
        let script = Script::of(steps);
        let mut upload = script.store().await.put_multipart(&Path::from("key")).await.unwrap();
        upload.put_part("part".into()).await.unwrap();
        assert_eq!(upload.complete().await.is_ok(), ok);
    }
}

#[tokio::test]
async fn a_server_that_ignores_a_range_or_a_bucket_that_is_missing_is_not_believed() {
    let whole = Step::Answer(200, vec![("ETag", "\"x\""), ("Last-Modified", DATE)], "0123456789");
    let elsewhere = Step::Answer(206, vec![("ETag", "\"x\""), ("Last-Modified", DATE), ("Content-Range", "bytes 3-4/10")], "34");
    for step in [whole, elsewhere] {
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(2..4)));
        let error = Script::of(vec![step]).store().await.get_opts(&Path::from("key"), options).await.unwrap_err();
        assert!(error.to_string().contains("asked for bytes=2-3"), "{error}");
    }
    let missing = Step::error(404, "<Error><Code>NoSuchBucket</Code><Message>None such.</Message></Error>");
    let error = Script::of(vec![missing]).store().await.get(&Path::from("key")).await.unwrap_err();
    assert!(matches!(&error, Error::Generic { source, .. } if source.to_string().contains("make the bucket first")), "{error}");
}

#[tokio::test]
async fn secrets_stay_out_of_what_is_logged() {
    let store = Script::of(vec![]).store().await;
    assert!(!format!("{store:?} {store}").contains("hush"));
}
