/**
 * Keeps a long list still while it changes: at the end it stays at the end; elsewhere the row at the
 * top stays where it is, whatever is put before it or turns out higher than was thought.
 */

import { computed, nextTick, onScopeDispose, shallowRef, triggerRef, watch } from 'vue'
import type { ComputedRef, Ref } from 'vue'
import { layOut, rangeOf, rowAt, totalOf } from './layout'
import type { Layout, Range } from './layout'

/** This close to the end counts as reading the newest. */
const STICK_WITHIN_PX = 48
/** Rows that are drawn before and after what is seen. */
const EXTRA_ROWS = 6

export interface Scroller {
  layout: ComputedRef<Layout>
  range: ComputedRef<Range>
  total: ComputedRef<number>
  isAtEnd: Readonly<Ref<boolean>>
  onScroll: () => void
  /** Told of a row's height once it is drawn, and when it changes. */
  measure: (key: string, height: number) => void
  scrollToEnd: () => void
  /** Puts a row near the top; whether there is such a row. */
  scrollToRow: (key: string) => boolean
}

type View = Readonly<Ref<HTMLElement | null>>

/** What of the list is seen; tells when its size changes. */
function useViewport(view: View, resized: () => void) {
  const top = shallowRef(0)
  const height = shallowRef(0)

  function read(): void {
    if (!view.value) return
    top.value = view.value.scrollTop
    height.value = view.value.clientHeight
  }

  function scrollTo(offset: number): void {
    if (!view.value) return
    view.value.scrollTop = offset
    read()
  }

  const observer = new ResizeObserver(() => {
    read()
    resized()
  })
  watch(view, (element, old) => {
    if (old) observer.unobserve(old)
    if (element) observer.observe(element)
  })
  onScopeDispose(() => {
    observer.disconnect()
  })
  return { top, height, read, scrollTo }
}

/** Heights as they are measured, taken together once for each frame, when `change` lets them. */
function useHeights(change: (apply: () => void) => void) {
  // Changed in place: there may be tens of thousands.
  const heights = shallowRef(new Map<string, number>())
  const fresh = new Map<string, number>()
  let frame = 0

  function measure(key: string, height: number): void {
    if (height === 0 || heights.value.get(key) === height) return
    fresh.set(key, height)
    frame ||= requestAnimationFrame(() => {
      frame = 0
      change(() => {
        for (const [each, measured] of fresh) heights.value.set(each, measured)
        fresh.clear()
        triggerRef(heights)
      })
    })
  }

  onScopeDispose(() => {
    cancelAnimationFrame(frame)
  })
  return { heights, measure }
}

export function useScroller(
  view: View,
  keys: () => readonly string[],
  estimate: number,
  settled: () => void,
  /** False while what follows the last row is not there: then the end is no place to stay at. */
  sticks: () => boolean = () => true,
): Scroller {
  const isAtEnd = shallowRef(true)
  const viewport = useViewport(view, () => {
    if (isAtEnd.value && sticks()) scrollToEnd()
  })
  const { top, height } = viewport
  const { heights, measure } = useHeights((apply) => {
    const old = layout.value
    // First the change, so that keeping still waits until it is drawn.
    apply()
    void keepStill(old, keys())
  })
  const layout = computed(() => layOut(keys(), heights.value, estimate))
  const total = computed(() => totalOf(layout.value))
  const range = computed(() => rangeOf(layout.value, top.value, height.value, EXTRA_ROWS))

  function onScroll(): void {
    viewport.read()
    const left = (view.value?.scrollHeight ?? 0) - top.value - height.value
    isAtEnd.value = left < STICK_WITHIN_PX
  }

  function scrollToEnd(): void {
    isAtEnd.value = true
    // Also what stands below the rows.
    viewport.scrollTo(view.value?.scrollHeight ?? 0)
  }

  function scrollToRow(key: string): boolean {
    const row = keys().indexOf(key)
    if (row < 0) return false
    isAtEnd.value = false
    // With the one before it in sight.
    viewport.scrollTo(layout.value.offsets[Math.max(0, row - 1)] ?? 0)
    onScroll()
    return true
  }

  /** Lets the list change and puts it back where the reader was. */
  async function keepStill(oldLayout: Layout, oldKeys: readonly string[]): Promise<void> {
    const row = rowAt(oldLayout, top.value)
    const key = oldKeys[row]
    const within = top.value - (oldLayout.offsets[row] ?? 0)
    await nextTick()
    if (isAtEnd.value && sticks()) {
      scrollToEnd()
      return
    }
    const offset = key === undefined ? undefined : layout.value.offsets[keys().indexOf(key)]
    if (offset !== undefined) viewport.scrollTo(offset + within)
  }

  watch(
    () => [keys(), layout.value] as const,
    ([newKeys], [oldKeys, oldLayout]) => {
      if (newKeys !== oldKeys) void keepStill(oldLayout, oldKeys).then(settled)
    },
  )
  return { layout, range, total, isAtEnd, onScroll, measure, scrollToEnd, scrollToRow }
}
