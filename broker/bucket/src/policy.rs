//! The least rights that a broker needs on a bucket, as text for the cloud's own tools.

use serde_json::json;

use crate::config::{AzureUrl, BucketUrl, GcsUrl, S3Url};

/// A role with these rights, to paste into the cloud's own tool.
pub fn policy(url: &BucketUrl) -> String {
    match url {
        BucketUrl::S3(url) => s3(url),
        BucketUrl::Gcs(url) => gcs(url),
        BucketUrl::Azure(url) => azure(url),
        BucketUrl::File(path) => {
            format!("The user that runs the broker owns the directory {} and nobody else may enter it (mode 0700).\n", path.display())
        }
        BucketUrl::Memory => "memory:// needs no rights.\n".to_owned(),
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// An IAM policy. On a compatible server the same names hold where it has policies at all.
fn s3(url: &S3Url) -> String {
    let partition = match url.region.as_deref().unwrap_or_default() {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let bucket = format!("arn:{partition}:s3:::{}", url.bucket);
    let mut list = json!({
        "Sid": "ListState",
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": bucket,
    });
    let objects = match url.prefix.as_ref() {
        "" => format!("{bucket}/*"),
        prefix => {
            list["Condition"] = json!({ "StringLike": { "s3:prefix": [prefix, format!("{prefix}/*")] } });
            format!("{bucket}/{prefix}/*")
        }
    };
    let mut statements = vec![
        list,
        json!({
            "Sid": "ReadAndWriteState",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": objects,
        }),
        json!({
            "Sid": "SeeWhetherALifecycleRuleDeletesState",
            "Effect": "Allow",
            "Action": "s3:GetLifecycleConfiguration",
            "Resource": bucket,
        }),
    ];
    if let Some(key) = &url.kms_key {
        let mut statement = json!({
            "Sid": "EncryptState",
            "Effect": "Allow",
            "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
            "Resource": key,
        });
        if !key.starts_with("arn:") {
            // An alias or a bare id cannot be a resource.
            let alias = key.starts_with("alias/");
            statement["Resource"] = json!(if alias { "*".to_owned() } else { format!("arn:{partition}:kms:*:*:key/{key}") });
            if alias {
                statement["Condition"] = json!({ "ForAnyValue:StringEquals": { "kms:ResourceAliases": key } });
            }
        }
        statements.push(statement);
    }
    pretty(&json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// A custom role and the binding of it. Listing is judged on the bucket, so its name stands in the condition beside the objects'.
fn gcs(url: &GcsUrl) -> String {
    let role = pretty(&json!({
        "title": "BucketMQ state",
        "stage": "GA",
        "includedPermissions": [
            "storage.multipartUploads.abort",
            "storage.multipartUploads.create",
            "storage.objects.create",
            "storage.objects.delete",
            "storage.objects.get",
            "storage.objects.list",
        ],
    }));
    let bucket = &url.bucket;
    let condition = match url.prefix.as_ref() {
        "" => String::new(),
        prefix => format!(
            " \\\n  --condition='title=bucketmq-prefix,expression=resource.name == \"projects/_/buckets/{bucket}\" || \
             resource.name.startsWith(\"projects/_/buckets/{bucket}/objects/{prefix}/\")'"
        ),
    };
    format!(
        "{role}\n\
         # With that in role.json:\n\
         gcloud iam roles create bucketmqState --project=PROJECT --file=role.json\n\
         gcloud storage buckets add-iam-policy-binding gs://{bucket} \\\n  \
         --member=serviceAccount:ACCOUNT@PROJECT.iam.gserviceaccount.com --role=projects/PROJECT/roles/bucketmqState{condition}\n"
    )
}

/// A custom role for the container. Azure has no rights on a prefix alone without a condition on each action; a container of its own is simpler.
fn azure(url: &AzureUrl) -> String {
    let blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs";
    let AzureUrl { account, container, .. } = url;
    let scope = format!(
        "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Storage/storageAccounts/{account}/blobServices/default/containers/{container}"
    );
    let role = pretty(&json!({
        "Name": "BucketMQ state",
        "Description": "Reads and writes the state of a BucketMQ broker",
        "AssignableScopes": ["/subscriptions/SUBSCRIPTION/resourceGroups/GROUP"],
        "Actions": [],
        "DataActions": [
            format!("{blobs}/read"),
            format!("{blobs}/write"),
            format!("{blobs}/add/action"),
            format!("{blobs}/delete"),
        ],
    }));
    format!(
        "{role}\n\
         # With that in role.json (the built-in role \"Storage Blob Data Contributor\" on the same scope has a little more):\n\
         az role definition create --role-definition role.json\n\
         az role assignment create --assignee IDENTITY --role 'BucketMQ state' \\\n  --scope {scope}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(url: &str) -> String {
        policy(&url.parse().expect("a bucket URL"))
    }

    #[test]
    fn the_policy_of_s3_is_json_for_the_prefix_and_the_key() {
        let policy: serde_json::Value =
            serde_json::from_str(&text("s3://my-bucket/prod?kms_key=arn:aws:kms:eu-west-1:1:key/2")).expect("JSON");
        let statements = policy["Statement"].as_array().expect("statements");
        assert_eq!(statements.len(), 4);
        assert_eq!(statements[0]["Condition"]["StringLike"]["s3:prefix"], json!(["prod", "prod/*"]));
        assert_eq!(statements[1]["Resource"], "arn:aws:s3:::my-bucket/prod/*");
        assert_eq!(statements[3]["Resource"], "arn:aws:kms:eu-west-1:1:key/2");
        let policy: serde_json::Value = serde_json::from_str(&text("s3://my-bucket?region=cn-north-1&kms_key=alias/mqtt")).expect("JSON");
        assert_eq!(policy["Statement"][1]["Resource"], "arn:aws-cn:s3:::my-bucket/*");
        assert!(policy["Statement"][0].get("Condition").is_none());
        assert_eq!(policy["Statement"][3]["Condition"]["ForAnyValue:StringEquals"]["kms:ResourceAliases"], "alias/mqtt");
    }

    #[test]
    fn the_other_clouds_get_a_role_and_the_command_that_binds_it() {
        let gcs = text("gs://my-bucket/prod");
        assert!(gcs.contains("storage.objects.create") && gcs.contains("objects/prod/") && gcs.contains("gs://my-bucket"), "{gcs}");
        assert!(!text("gs://my-bucket").contains("--condition"));
        let azure = text("az://account1/state/prod");
        assert!(
            azure.contains("containers/blobs/write") && azure.contains("storageAccounts/account1/blobServices/default/containers/state")
        );
        assert!(text("file:///var/lib/bucketmq").contains("0700"));
    }
}
