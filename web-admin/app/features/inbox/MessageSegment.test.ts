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

  it('shows pictures', () => {
    expect(render({ type: 'image', ref, name: null, url: '/media/t' }).querySelector('img')?.getAttribute('src')).toBe('/media/t')
  })
})

describe('a voice', () => {
  const voice = { type: 'voice', ref, transcript: 'hello', url: '/media/v' }
  const playback = { error_class: null, original_url: '/media/v?original=true' }
  const original = (shown: HTMLElement) => shown.querySelector('a')?.getAttribute('href')

  it('is played, its words beneath', () => {
    const shown = render(voice)
    expect(shown.querySelector('audio')?.getAttribute('src')).toBe('/media/v')
    expect(shown.textContent).toBe('hello')
    expect(original(shown)).toBeUndefined()
  })

  it('is played as what was made of it, the original beside it', () => {
    const shown = render({ ...voice, playback: { ...playback, state: 'ready' } })
    expect(shown.querySelector('audio')?.getAttribute('src')).toBe('/media/v')
    expect(original(shown)).toBe('/media/v?original=true')
  })

  it.each([
    ['pending', 'The voice is being made playable…'],
    ['failed', 'This voice cannot be played here.'],
  ])('says so while it is %s, and gives the original', (state, sentence) => {
    const shown = render({ ...voice, playback: { ...playback, state } })
    expect(shown.querySelector('audio')).toBeNull()
    expect(shown.textContent).toContain(sentence)
    expect(shown.textContent).toContain('hello')
    expect(original(shown)).toBe('/media/v?original=true')
  })

  it('without bytes is its words, or a word for itself', () => {
    expect(render({ ...voice, ref: null, url: undefined, transcript: null }).textContent).toBe('[voice]')
  })
})
