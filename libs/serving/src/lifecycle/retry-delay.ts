const firstMs = 1_000
const longestMs = 60_000

/** How long after so many failures in a row a load is not tried again, ms. */
export function retryDelayMs(failures: number): number {
  return Math.min(firstMs * 2 ** (failures - 1), longestMs)
}
