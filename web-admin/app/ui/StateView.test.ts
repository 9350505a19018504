// @vitest-environment happy-dom
import { describe, expect, it } from 'vitest'
import { createApp, h } from 'vue'
import { ApiError, unreachable } from '../api/problem'
import type { ResourceState } from '../async/resource'
import { i18n, setLanguage } from '../i18n'
import ground from '../locales/zh-CN/ground.json'
import StateView from './StateView.vue'

function render(state: ResourceState, error: ApiError | null, onRetry = () => undefined): HTMLElement {
  const root = document.createElement('div')
  const props = { state, error, emptyTitle: 'nothing yet', onRetry }
  createApp({ render: () => h(StateView, props, () => 'content') }).use(i18n).mount(root)
  return root
}

await setLanguage('zh-CN')
const down = new ApiError(503, 'unavailable', '')

describe('StateView', () => {
  it.each([
    ['loading', null, ground.state.loading],
    ['denied', new ApiError(403, 'forbidden', ''), ground.state.denied],
    ['failed', down, ground.problem.server],
    ['offline', unreachable(), ground.state.offline],
    ['empty', null, 'nothing yet'],
  ] as const)('says what %s means instead of content', (state, error, text) => {
    const shown = render(state, error).textContent
    expect(shown).toContain(text)
    expect(shown).not.toContain('content')
  })

  it('shows the content, and says when it is an earlier state', () => {
    expect(render('ready', null).textContent.trim()).toBe('content')
    const stale = render('ready', down).textContent
    expect(stale).toContain('content')
    expect(stale).toContain(ground.state.stale)
  })

  it('tries again by itself when the network is back', () => {
    let retries = 0
    render('offline', unreachable(), () => void (retries += 1))
    window.dispatchEvent(new Event('online'))
    expect(retries).toBe(1)
  })

  it('offers to try again after a failure', () => {
    let retries = 0
    render('failed', down, () => void (retries += 1)).querySelector('button')?.click()
    expect(retries).toBe(1)
  })
})
