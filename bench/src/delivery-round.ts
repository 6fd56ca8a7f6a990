// One run at a steady rate, in a process of its own: prints the p50, then the p99, in ms. Started by delivery-cost.ts.
import { measure } from './latency.ts'
import { percentile } from './rounds.ts'

const latencies = await measure('local', process.argv.slice(2))
console.log(percentile(latencies, 0.5))
console.log(percentile(latencies, 0.99))
process.exit(0)
