// @vitest-environment happy-dom
import { describe, expect, it } from 'vitest'
import { createApp, h } from 'vue'
import type { Segment } from '../../api/types'
import { i18n, setLanguage } from '../../i18n'
import MessageSegment from './MessageSegment.vue'

await setLanguage('en')

function render(segment: object): HTMLElement {
  const root = document.createElement('div')
  createApp({ render: () => h(MessageSegment, { segment: segment as Segment }) }).use(i18n).mount(root)
  return root
}

const ref = { via: 'media', id: 'm', more: {} }

describe('MessageSegment', () => {
  it.each([
    [{ type: 'text', text: '<img src=x onerror=alert(1)>' }, '<img src=x onerror=alert(1)>'],
    [{ type: 'markdown', text: '**no** <b>HTML</b>', title: null }, '**no** <b>HTML</b>'],
    [{ type: 'link', url: 'javascript:alert(1)', title: 'Look', desc: null, image: null }, 'Look\njavascript:alert(1)'],
    [{ type: 'at', target: 'u1', name: 'Li', is_self: false }, '@Li'],
    [{ type: 'voice', ref: null, transcript: 'what was said' }, 'what was said'],
    [{ type: 'image', ref, name: 'cat.png' }, '[picture] cat.png'],
    [{ type: 'location' }, '[content that cannot be shown here]'],
    [{ type: 'of_a_later_version' }, '[content that cannot be shown here]'],
  ])('shows %o as nothing but text', (segment, text) => {
    const shown = render(segment)
    expect(shown.textContent).toBe(text)
    expect(shown.querySelector('a, img, b, audio')).toBeNull()
  })

  it('shows pictures, and words under a voice', () => {
    expect(render({ type: 'image', ref, name: null, url: '/media/t' }).querySelector('img')?.getAttribute('src')).toBe('/media/t')
    const voice = render({ type: 'voice', ref, transcript: 'hello', url: '/media/v' })
    expect(voice.querySelector('audio')).not.toBeNull()
    expect(voice.textContent).toBe('hello')
  })
})
