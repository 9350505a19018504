/** The pages that a person may open, by group, as their routes say. */

import { computed } from 'vue'
import type { ComputedRef, Ref } from 'vue'
import { useI18n } from 'vue-i18n'
import { useRoute, useRouter } from 'vue-router'
import { useCommands } from '../commands/registry'
import { signedIn } from '../signedIn'

const GROUPS = [
  { name: 'inbox', title: null },
  { name: 'console', title: 'shell.console' },
  { name: 'people', title: 'shell.people' },
  { name: 'company', title: 'shell.company' },
  { name: 'platform', title: 'shell.platform' },
  { name: 'personal', title: 'shell.personal' },
] as const
export type NavigationGroupName = (typeof GROUPS)[number]['name']

export interface NavigationPage {
  name: string
  label: string
  path: string
  isHere: boolean
}

export interface NavigationGroup {
  name: string
  title: string | null
  pages: NavigationPage[]
}

export function useNavigation(): ComputedRef<NavigationGroup[]> {
  const router = useRouter()
  const route = useRoute()
  return computed(() => {
    const open = router.getRoutes().filter(({ meta }) => meta.nav && signedIn.maySee(meta))
    return GROUPS.map(({ name, title }) => ({
      name,
      title,
      pages: open
        .filter(({ meta }) => meta.nav?.group === name)
        .toSorted((one, other) => (one.meta.nav?.order ?? 0) - (other.meta.nav?.order ?? 0))
        .map((page) => ({
          name: String(page.name),
          label: page.meta.nav?.label ?? '',
          // Parameters are what people choose on the page; `/inbox` leads to its first view.
          path: page.path.replace(/\/:.*$/, ''),
          isHere: route.matched.some(({ meta }) => meta.nav === page.meta.nav || meta.under === page.name),
        })),
    })).filter(({ pages }) => pages.length > 0)
  })
}

/** Every page is a command as well. */
export function useNavigationCommands(groups: Readonly<Ref<NavigationGroup[]>>): void {
  const { t } = useI18n()
  const router = useRouter()
  useCommands(
    groups.value.flatMap(({ pages }) =>
      pages.map(({ name, label, path }) => ({
        id: `page.${name}`,
        title: 'commands.open',
        words: () => ({ page: t(label) }),
        run: () => void router.push(path),
      })),
    ),
  )
}
