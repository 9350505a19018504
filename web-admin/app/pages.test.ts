// @vitest-environment happy-dom
import { expect, it, vi } from 'vitest'
import { dialogs, inboxPages, memberPages, noticePages, operatorPages, plainPages } from '../browser/pages.mjs'
import type { RouteRecordRaw } from 'vue-router'
import { pages, router } from './router'

// It shows a picture that only the built pages have.
vi.mock('./shell/AppShell.vue', () => ({ default: {} }))

const LINKS: Record<string, string> = { 'article h2 a': '/app/bots/1', 'tbody a': '/app/ops/fleet/1' }
const finder = {
  goto: () => Promise.resolve(),
  getAttribute: (selector: string) => Promise.resolve(LINKS[selector] ?? null),
}
/** A page for people who belong to nothing yet, who are not in a demo. */
const NOT_LOOKED_AT = ['home']

async function lookedAt() {
  const signedIn = await Promise.all([memberPages, operatorPages].map((find) => find(finder, (path) => path)))
  return [...plainPages, ...noticePages, ...inboxPages, ...signedIn.flat()]
}

/** Where an address leads in the end. */
function nameAt(path: string): string {
  const { name, matched } = router.resolve(path.replace(/^\/app/, ''))
  const redirect = matched.at(-1)?.redirect
  return String(typeof redirect === 'object' && 'name' in redirect ? redirect.name : name)
}

it('has every page of the router in the list that is photographed and looked through', async () => {
  const pages = router.getRoutes().filter(({ children }) => children.length === 0)
  const names = pages.flatMap(({ name }) => (name === undefined ? [] : [String(name)]))
  const seen = (await lookedAt()).map(({ path }) => nameAt(path))
  expect([...new Set(seen)].toSorted()).toEqual(names.filter((name) => !NOT_LOOKED_AT.includes(name)).toSorted())
})

it('marks every page at one of the navigation', () => {
  const named = router.getRoutes().flatMap(({ name, meta }) => (meta.nav ? [name] : []))
  const isMarked = ({ name, meta }: RouteRecordRaw) => named.includes(name) || named.includes(meta?.under)
  const unmarked = pages.filter((page) => !page.redirect && !isMarked(page)).map(({ path }) => path)
  expect(unmarked).toEqual([])
})

it('looks for dialogs on pages that there are', async () => {
  const names = (await lookedAt()).map(({ name }) => name)
  expect(Object.keys(dialogs).filter((name) => !names.includes(name))).toEqual([])
})
