/** Runs something once for many calls: never twice at a time, and once more for calls meanwhile. */

export interface Gathering {
  call: () => void
  end: () => void
}

export function gather(run: () => Promise<void>, withinMs: number): Gathering {
  let timer: ReturnType<typeof setTimeout> | undefined
  let isRunning = false
  let isWanted = false
  let hasEnded = false

  function call(): void {
    isWanted = true
    if (hasEnded || isRunning || timer !== undefined) return
    timer = setTimeout(() => void start(), withinMs)
  }

  async function start(): Promise<void> {
    timer = undefined
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
