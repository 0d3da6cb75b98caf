use lindos_sim::validate::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let all = std::time::Instant::now();
    let o = if a.get(2).is_some() { Options::quick() } else { Options::full() };
    for case in cases(o) {
        if case.is_named(&a[1]) {
            let t = std::time::Instant::now();
            for c in case.play() {
                println!(
                    "{} {:8.4} | {:8.4} [{:.4} {:.4}] {} | {}",
                    c.name, c.published, c.ours, c.low, c.high, c.ok, c.note
                );
            }
            println!("  {}: {:.2} s cost {:.2e}", case.name, t.elapsed().as_secs_f64(), case.cost);
        }
    }
    println!("all {:.1}", all.elapsed().as_secs_f64());
}
