// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createApp, defineComponent } from 'vue'
import type { App } from 'vue'
import { ASK_AGAIN_AFTER_MS, useChanges } from './changes'

describe('useChanges', () => {
  let visibility: DocumentVisibilityState
  let asked: number
  let answer: () => void
  let app: App

  beforeEach(() => {
    vi.useFakeTimers()
    visibility = 'visible'
    vi.spyOn(document, 'visibilityState', 'get').mockImplementation(() => visibility)
    asked = 0
    app = createApp(
      defineComponent(() => {
        useChanges(() => {
          asked += 1
          return new Promise((resolve) => (answer = resolve))
        })
        return () => null
      }),
    )
    app.mount(document.createElement('div'))
  })

  afterEach(() => {
    app.unmount()
    vi.useRealTimers()
  })

  function look(state: DocumentVisibilityState): void {
    visibility = state
    document.dispatchEvent(new Event('visibilitychange'))
  }

  it('asks again only after the answer', async () => {
    await vi.advanceTimersByTimeAsync(3 * ASK_AGAIN_AFTER_MS)
    expect(asked).toBe(1)
    answer()
    await vi.advanceTimersByTimeAsync(ASK_AGAIN_AFTER_MS)
    expect(asked).toBe(2)
  })

  it('rests while nobody looks and asks at once when somebody does', async () => {
    look('hidden')
    await vi.advanceTimersByTimeAsync(10 * ASK_AGAIN_AFTER_MS)
    expect(asked).toBe(0)
    look('visible')
    expect(asked).toBe(1)
  })

  it('stops with its page, also in the middle of a question', async () => {
    await vi.advanceTimersByTimeAsync(ASK_AGAIN_AFTER_MS)
    app.unmount()
    answer()
    await vi.advanceTimersByTimeAsync(10 * ASK_AGAIN_AFTER_MS)
    look('visible')
    expect(asked).toBe(1)
  })
})
