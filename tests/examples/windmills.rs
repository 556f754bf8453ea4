//! Writes twelve windmills with captions into the folder that is named, to try `infinity finetune` with.
#![allow(clippy::unwrap_used, reason = "an example stops at the first surprise")]

fn main() {
    let folder = std::env::args()
        .nth(1)
        .map_or_else(|| "windmills".into(), std::path::PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    infinity_tests::windmill::write_folder(&folder, 12);
}
