import type { RouteRecordRaw } from 'vue-router'

export const lettersRoutes: RouteRecordRaw[] = [
  {
    path: 'dead-letters',
    name: 'letters',
    component: () => import('./LettersPage.vue'),
    meta: {
      audience: 'member',
      permission: 'conversations.read',
      nav: { group: 'console', order: 85, label: 'nav.letters' },
    },
  },
]
