// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createApp, h, nextTick, shallowRef } from 'vue'
import { LogBuffer, MOST_LINES } from './buffer'
import type { Entry } from './buffer'
import LogRows from './LogRows.vue'

const SEEN_PX = 600
/** What is seen, and a few before and behind it. */
const MOST_DRAWN = SEEN_PX / 20 + 20

beforeEach(() => {
  vi.spyOn(HTMLElement.prototype, 'clientHeight', 'get').mockReturnValue(SEEN_PX)
})
afterEach(() => {
  document.body.replaceChildren()
})

async function show(entries: readonly Entry[], sought = '') {
  const root = document.body.appendChild(document.createElement('div'))
  const shown = shallowRef(entries)
  const rows = shallowRef<InstanceType<typeof LogRows>>()
  createApp({
    render: () => h(LogRows, { ref: rows, entries: shown.value, sought, current: null, label: 'Log' }),
  }).mount(root)
  await nextTick()
  const view = root.querySelector<HTMLElement>('.view')
  if (!view) throw new Error('nothing is drawn')
  const scroll = async (offset: number) => {
    view.scrollTop = offset
    view.dispatchEvent(new Event('scroll'))
    await nextTick()
  }
  const texts = () => [...root.querySelectorAll('.line')].map(({ textContent }) => textContent)
  const change = async (fresh: readonly Entry[]) => {
    shown.value = fresh
    await nextTick()
    await nextTick()
    await nextTick()
  }
  return { root, rows, view, scroll, texts, change }
}

function filled(count: number): LogBuffer {
  const buffer = new LogBuffer()
  buffer.add(Array.from({ length: count }, (_, index) => `line ${index}`))
  return buffer
}

/** A busy machine draws slowly. */
const PATIENCE = { timeout: 60_000 }

describe('LogRows', PATIENCE, () => {
  it('draws few rows of a hundred thousand, wherever it is read', async () => {
    const { scroll, texts } = await show(filled(MOST_LINES).shown)
    for (const place of [0, 0.3, 0.99]) {
      await scroll(place * MOST_LINES * 20)
      expect(texts().length).toBeLessThanOrEqual(MOST_DRAWN)
      expect(texts()).toContain(`line ${place * MOST_LINES}`)
    }
  })

  it('stays at the end while lines come', async () => {
    const buffer = filled(1_000)
    const { texts, change } = await show(buffer.shown.slice())
    buffer.add(['the newest'])
    await change(buffer.shown.slice())
    expect(texts().at(-1)).toBe('the newest')
  })

  it('keeps the line at the top while others come and fall out', async () => {
    const buffer = new LogBuffer(1_000, 100)
    buffer.add(Array.from({ length: 1_000 }, (_, index) => `line ${index}`))
    const { scroll, view, change } = await show(buffer.shown.slice())
    await scroll(400 * 20 + 7)
    buffer.add(Array.from({ length: 50 }, (_, index) => `line ${1_000 + index}`))
    await change(buffer.shown.slice())
    expect(view.scrollTop).toBe(350 * 20 + 7)
  })

  it('marks what was sought', async () => {
    const { root } = await show(filled(3).shown, 'LINE')
    expect([...root.querySelectorAll('mark')].map(({ textContent }) => textContent)).toEqual(['line', 'line', 'line'])
  })

  it('goes to a line by its number', async () => {
    const { rows, texts } = await show(filled(5_000).shown)
    rows.value?.show(2_500)
    await nextTick()
    expect(texts()).toContain('line 2500')
  })
})
