// A list of items, the best first: a link to each, with the field `rating` in stars.
(function () {
  "use strict";

  var component = {
    props: {
      items: {type: Array, default: function () { return []; }},
      fields: {type: Object, default: function () { return {}; }},
      primaryKeyField: {type: String, default: "id"},
      viewOptions: {type: Object, default: function () { return {}; }},
      link: {type: String, default: "__link__"},
    },
    methods: {
      rating: function (item) {
        return Number(item[this.viewOptions.rating || "rating"]) || 0;
      },
    },
    render: function (h) {
      var self = this;
      var best = self.items.slice().sort(function (one, other) { return self.rating(other) - self.rating(one); });
      return h("ul", {class: "stars-list"}, best.map(function (item) {
        var title = item[self.viewOptions.title || "title"] || item[self.primaryKeyField];
        return h("li", {key: item[self.primaryKeyField]}, [
          h("a", {attrs: {href: "#" + item[self.link]}}, String(title)),
          " " + "\u2605".repeat(Math.min(10, self.rating(item))),
        ]);
      }));
    },
  };

  component.default = component;
  window.__DirectusExtension__ = component;
})();
