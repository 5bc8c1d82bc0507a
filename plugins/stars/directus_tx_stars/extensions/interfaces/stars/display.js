// The interface in lists: the rating in stars, which cannot be changed.
(function () {
  "use strict";

  var component = {
    props: {
      value: {type: Number, default: null},
      options: {type: Object, default: function () { return {}; }},
    },
    render: function (h) {
      var most = Number(this.options.stars) || 5;
      var set = Math.max(0, Math.min(most, this.value || 0));
      var title = set + " / " + most;
      return h("span", {attrs: {title: title}}, this.value === null ? "" : "\u2605".repeat(set) + "\u2606".repeat(most - set));
    },
  };

  component.default = component;
  window.__DirectusExtension__ = component;
})();
