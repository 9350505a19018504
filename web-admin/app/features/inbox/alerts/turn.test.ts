// @vitest-environment happy-dom
import { afterEach, describe, expect, it, vi } from 'vitest'
import { effectScope } from 'vue'
import type { EffectScope } from 'vue'
import { useTurn } from './turn'

interface Asked {
  run: () => Promise<void>
  fail: (reason: Error) => void
  signal: AbortSignal | undefined
}

/** One lock as browsers have it: held by one, queued for, or stolen. */
class Locks {
  held: Asked | null = null
  queue: Asked[] = []

  request = ((_: string, { steal, signal }: LockOptions, run: () => Promise<void>) =>
    new Promise((_done, fail) => {
      const asked = { run, fail, signal }
      signal?.addEventListener('abort', () => {
        this.queue = this.queue.filter((one) => one !== asked)
        if (this.held !== asked) fail(new DOMException('', 'AbortError'))
      })
      if (steal) {
        this.held?.fail(new DOMException('', 'AbortError'))
        this.grant(asked)
      } else if (this.held) this.queue.push(asked)
      else this.grant(asked)
    })) as LockManager['request']

  grant(asked: Asked): void {
    this.held = asked
    void asked.run().then(() => {
      if (this.held !== asked) return
      this.held = null
      const next = this.queue.shift()
      if (next) this.grant(next)
    })
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

describe('useTurn', () => {
  const tabs: EffectScope[] = []

  function tab(locks: Locks | undefined, hasFocus: boolean) {
    vi.spyOn(document, 'hasFocus').mockReturnValue(hasFocus)
    const scope = effectScope()
    tabs.push(scope)
    const isOurs = scope.run(() => useTurn(locks))
    return { scope, has: () => isOurs?.value }
  }
  afterEach(() => {
    for (const scope of tabs.splice(0)) scope.stop()
  })

  it('belongs to the first tab, and passes on when it closes', async () => {
    const locks = new Locks()
    const one = tab(locks, false)
    const two = tab(locks, false)
    expect([one.has(), two.has()]).toEqual([true, false])
    one.scope.stop()
    await settled()
    expect(two.has()).toBe(true)
  })

  it('goes to the tab that is looked at, and comes back when that one closes', async () => {
    const locks = new Locks()
    const one = tab(locks, false)
    const two = tab(locks, true)
    await settled()
    expect([one.has(), two.has()]).toEqual([false, true])
    two.scope.stop()
    await settled()
    expect(one.has()).toBe(true)
  })

  it('is everybody’s where browsers have no locks', () => {
    expect(tab(undefined, false).has()).toBe(true)
  })
})
