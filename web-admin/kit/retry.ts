/** When to try a lost connection again, so that many pages never come back in one moment. */

const RETRY_FLOOR_MS = 500
const RETRY_CAP_MS = 20_000

/** The server restarts; its reason says when to come back, each page at another moment. */
const RESTARTING = 1012
const AGAIN_IN = /again in (\d{1,3}(?:\.\d{1,3})?) s/
/** Added at most: pages that were told the same moment still come one after another. */
const HINT_JITTER_MS = 500

/** Full jitter between the floor and a ceiling that doubles with every failed attempt. */
export function retryDelay(failures: number, random: () => number): number {
  const ceiling = Math.min(RETRY_CAP_MS, RETRY_FLOOR_MS * 2 ** (failures + 1))
  return RETRY_FLOOR_MS + random() * (ceiling - RETRY_FLOOR_MS)
}

/** How long a restarting server asks us to wait; null where it says nothing that can be meant. */
export function hintedDelay(code: number, reason: string, random: () => number): number | null {
  const hint = code === RESTARTING ? AGAIN_IN.exec(reason) : null
  if (!hint) return null
  const asked = Math.min(Number(hint[1]) * 1_000, RETRY_CAP_MS)
  return asked + random() * HINT_JITTER_MS
}
