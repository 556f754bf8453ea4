//! `random_model DIR`: a model folder of the starter's shape with random weights, to time drawing without the real one.

fn main() {
    match std::env::args_os().nth(1) {
        Some(folder) => infinity_tests::models::starter_shaped(folder.as_ref()),
        None => std::process::exit(2),
    }
}
