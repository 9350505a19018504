/**
 * Runs something once for many calls: never twice at a time, and once more for calls meanwhile. The first
 * call after a quiet time waits for nobody; those behind it wait until `withinMs` have passed.
 */

export interface Gathering {
  call: () => void
  end: () => void
}

export function gather(run: () => Promise<void>, withinMs: number): Gathering {
  let timer: ReturnType<typeof setTimeout> | undefined
  let isRunning = false
  let isWanted = false
  let hasEnded = false
  let startedAt = -Infinity

  function call(): void {
    isWanted = true
    if (hasEnded || isRunning || timer !== undefined) return
    timer = setTimeout(() => void start(), Math.max(0, startedAt + withinMs - performance.now()))
  }

  async function start(): Promise<void> {
    timer = undefined
    startedAt = performance.now()
    isRunning = true
    isWanted = false
    try {
      await run()
    } finally {
      isRunning = false
      if (isWanted) call()
    }
  }

  function end(): void {
    hasEnded = true
    clearTimeout(timer)
  }

  return { call, end }
}
