//! The endpoints of the distribution specification 1.1 ([the table](table)) over a folder, and
//! over a real server that speaks S3.

mod running;
mod table;

use running::s3::Buckets;
use running::{Running, options};

#[tokio::test]
async fn blobs_are_pushed_whole_pulled_in_ranges_mounted_and_deleted() {
    table::blobs(&Running::start().await).await;
}

#[tokio::test]
async fn uploads_go_chunk_by_chunk_say_where_they_are_and_are_cancelled() {
    table::uploads(&Running::start().await).await;
}

#[tokio::test]
async fn manifests_are_pushed_pulled_and_deleted_by_tag_and_by_digest() {
    table::manifests(&Running::start().await).await;
}

#[tokio::test]
async fn tags_are_listed_in_order_and_in_pages() {
    table::tags(&Running::start().await).await;
}

#[tokio::test]
async fn referrers_are_listed_and_filtered_whether_the_subject_is_there_or_not() {
    table::referrers(&Running::start().await).await;
}

#[tokio::test]
async fn soak_every_row_of_the_table_holds_over_s3() {
    let s3 = Buckets::start();
    let mut registries = Vec::new();
    for bucket in ["blobs", "uploads", "manifests", "tags", "referrers"] {
        registries.push(Running::at(s3.place(bucket), options(), None).await);
    }
    table::blobs(&registries[0]).await;
    table::uploads(&registries[1]).await;
    table::manifests(&registries[2]).await;
    table::tags(&registries[3]).await;
    table::referrers(&registries[4]).await;
}
